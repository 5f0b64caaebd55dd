package integration

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// outside is a viewer's address in the internet, as PMS is to see it; elsewhere
// is one that somebody pretends to have.
const (
	outside   = "203.0.113.7"
	elsewhere = "198.51.100.9"
)

// Servers are told where the viewer is: by whoever can know it, and by nobody
// else. Everything in 127.0.0.0/8 is one machine here; PMS goes by an address
// that it is told only if that is a public one [P §6.4].
func TestServersKnowWhereViewersAre(t *testing.T) {
	const proxy, stranger = "127.0.0.9", "127.0.0.5"
	trusting := "servers {\ntrusted_proxies static " + proxy + "/32\n}\n"
	for name, tc := range map[string]struct {
		options, inside string
		peer            string // from where it comes to Caddy
		claims          string // X-Forwarded-For
		via             string // X-Forwarded-For, as the server gets it
		from            string // where the viewer seems to be to the server
	}{
		"the viewer by himself":                        {"", "", stranger, "", stranger, "127.0.0.1"},
		"a viewer who pretends":                        {"", "", stranger, elsewhere, stranger, "127.0.0.1"},
		"a viewer who pretends to be at home":          {"", "", stranger, "192.168.1.2", stranger, "127.0.0.1"},
		"a proxy that is not trusted":                  {"", "", proxy, outside, proxy, "127.0.0.1"},
		"a trusted proxy":                              {trusting, "", proxy, outside, outside, outside},
		"a viewer beside the trusted proxy":            {trusting, "", stranger, elsewhere, stranger, "127.0.0.1"},
		"two trusted proxies in a row":                 {trusting, "", proxy, outside + ", " + proxy, outside, outside},
		"a trusted proxy of a viewer who pretends":     {strings.Replace(trusting, "/32\n", "/32\ntrusted_proxies_strict\n", 1), "", proxy, elsewhere + ", " + outside, outside, outside},
		"a proxy with a header of its own":             {strings.Replace(trusting, "/32\n", "/32\nclient_ip_headers CF-Connecting-IP\n", 1), "", proxy, elsewhere, outside, outside},
		"a proxy that only the block trusts":           {"", "trusted_proxies " + proxy + "/32", proxy, outside, outside + ", " + proxy, outside},
		"a block with a header of its own":             {trusting, "header_up X-Forwarded-For " + elsewhere, proxy, outside, elsewhere, elsewhere},
		"a block that tells the servers nothing of it": {trusting, "header_up -X-Forwarded-For", proxy, outside, "", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			servers := stand(t, 2, nil)
			b := load(t, "{\nGLOBAL\n"+tc.options+option(servers, replicated)+"}\nHERE {\n"+labels+"plexlb {\n"+tc.inside+"\n}\n}\n")
			servers[0].AddBypass(6) // so that timelines are copied from elsewhere
			eventually(t, "the load is read", 5*time.Second, func() bool { return b.server("plex1").Load > 5 })
			for _, s := range servers {
				s.ResetLog()
			}
			client := &http.Client{Transport: &http.Transport{
				DialContext:       (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(tc.peer)}}).DialContext,
				DisableKeepAlives: true,
			}}
			const playback = "X-Plex-Session-Identifier=here&X-Plex-Client-Identifier=device"
			paths := []string{
				"/library/sections?" + playback,
				"/video/:/transcode/universal/decision?path=%2Flibrary%2Fmetadata%2F1&session=here&" + playback,
				"/video/:/transcode/universal/start.mpd?path=%2Flibrary%2Fmetadata%2F1&session=here&" + playback,
				"/video/:/transcode/universal/session/here/0/header",
				"/:/timeline?ratingKey=1&key=%2Flibrary%2Fmetadata%2F1&state=playing&time=1000&duration=600000&" + playback,
			}
			for _, path := range paths {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("X-Plex-Token", token)
				if tc.claims != "" {
					r.Header.Set("X-Forwarded-For", tc.claims)
				}
				r.Header.Set("CF-Connecting-IP", outside)
				r.Header.Set("X-Forwarded-Host", "another.example.com")
				res, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if res.StatusCode != http.StatusOK {
					t.Fatalf("%s: %s", path, res.Status)
				}
			}
			seen := make(map[string]int)
			eventually(t, "the timeline is copied", 5*time.Second, func() bool {
				clear(seen)
				for _, s := range servers {
					for _, e := range s.Log() {
						if e.CID != "device" && e.TSID != "here" { // a check or reading of ours
							continue
						}
						seen[e.Path]++
						copied := e.Path == "/:/timeline" && s == servers[0]
						if e.Host != b.addr && !copied {
							t.Errorf("%s: for host %q", e.Path, e.Host)
						}
						if copied && tc.inside != "" { // a copy does not pass through the block
							continue
						}
						if e.Via != tc.via || e.From != tc.from {
							t.Errorf("%s: %q was forwarded, and the viewer seems to be at %s; want %q and %s", e.Path, e.Via, e.From, tc.via, tc.from)
						}
					}
				}
				return seen["/:/timeline"] == 2
			})
			if len(seen) != len(paths) {
				t.Errorf("servers got %v, want %d paths", fmt.Sprint(seen), len(paths))
			}
		})
	}
}

// What passes through another Caddy in front is told as well, also by a proxy
// that is written by hand.
func TestServersKnowWhereViewersAreBehindAnotherCaddy(t *testing.T) {
	servers := stand(t, 1, nil)
	t.Run("directive", func(t *testing.T) { behindAnotherCaddy(t, servers, "plexlb") })
	t.Run("by hand", func(t *testing.T) {
		behindAnotherCaddy(t, servers, "route {\nplexlb_session\nreverse_proxy "+servers[0].Addr()+" {\nlb_policy least_transcodes\n}\n}")
	})
}

func behindAnotherCaddy(t *testing.T, servers []*plextest.Server, site string) {
	front := freeAddr(t)
	b := load(t, "{\nGLOBAL\nservers {\ntrusted_proxies static 127.0.0.1/32\n}\n"+option(servers, "")+"}\nHERE {\n"+site+"\n}\n"+
		"http://"+front+" {\nreverse_proxy HERE\n}\n")
	client := &http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.5")}}).DialContext,
	}}
	defer client.CloseIdleConnections()
	for _, base := range []string{b.URL, "http://" + front} {
		servers[0].ResetLog()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/library/sections", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Plex-Token", token)
		r.Header.Set("X-Plex-Client-Identifier", "device")
		r.Header.Set("X-Forwarded-For", elsewhere)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		var got []plextest.Entry
		for _, e := range servers[0].Log() {
			if e.CID == "device" {
				got = append(got, e)
			}
		}
		if len(got) != 1 || got[0].Via != "127.0.0.5" {
			t.Errorf("by way of %s: %+v", base, got)
		}
	}
}
