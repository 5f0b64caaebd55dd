package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// A server that fails every start at once looks idle, and must not draw all
// viewers in for that.
func TestSinkhole(t *testing.T) {
	servers := stand(t, 3, nil)
	b := load(t, site(servers, replicated))
	sink := servers[1]
	sink.FailStarts(http.StatusInternalServerError)
	for i := range 12 {
		v := plextest.NewViewer(plextest.MPVShim, b.URL, token, fmt.Sprint(1+i), uint64(i))
		t.Cleanup(v.Close)
		if err := v.Start(t.Context()); err != nil {
			t.Fatalf("viewer %d: %v", i, err)
		}
	}
	asked := 0
	for _, e := range sink.Log() {
		if strings.Contains(e.Path, "/universal/decision") || strings.Contains(e.Path, "/universal/start") {
			asked++
		}
	}
	if !b.server("plex2").Shunned {
		t.Error("plex2 has failed several people with several films, and is not shunned")
	}
	// Each failure is charged; a third of twelve would be its share.
	if asked == 0 || asked > 4 {
		t.Errorf("the failing server was asked %d times", asked)
	}
	if n := len(servers[0].Jobs()) + len(servers[2].Jobs()); n != 12 {
		t.Errorf("%d transcodes run elsewhere, want 12", n)
	}
}

// A film that fails everywhere is no server's fault.
func TestPoison(t *testing.T) {
	servers := stand(t, 3, nil)
	config := site(servers, replicated)
	for _, s := range servers {
		// A server in front, which cannot read one file.
		target, err := url.Parse(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		proxy := httputil.NewSingleHostReverseProxy(target)
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/universal/") && r.URL.Query().Get("path") == "/library/metadata/3" {
				http.Error(w, "cannot read the file", http.StatusInternalServerError)
				return
			}
			proxy.ServeHTTP(w, r)
		}))
		t.Cleanup(front.Close)
		config = strings.ReplaceAll(config, s.Addr(), strings.TrimPrefix(front.URL, "http://"))
	}
	b := load(t, config)
	for i := range 8 {
		v := plextest.NewViewer(plextest.MPVShim, b.URL, token, "3", uint64(i))
		if err := v.Start(t.Context()); err == nil {
			t.Fatal("the film can be played: the test tests nothing")
		}
		v.Close()
	}
	for i := range 3 {
		if name := fmt.Sprintf("plex%d", i+1); b.server(name).Shunned {
			t.Errorf("%s is shunned for a film that is broken everywhere", name)
		}
	}
	v := plextest.NewViewer(plextest.MPVShim, b.URL, token, "1", 99)
	t.Cleanup(v.Close)
	if err := v.Start(t.Context()); err != nil {
		t.Error(err)
	}
}
