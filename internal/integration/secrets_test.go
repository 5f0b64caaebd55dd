//go:build unix

package integration

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// secrets are tokens, each with a core by which a part of it is found as well.
// Real ones are of letters, digits, - and _, or signed documents; some of these
// have to be written with escapes in a query.
type secrets struct {
	mu    sync.Mutex
	cores map[string]string // what it is, by core
}

// make returns a new one.
func (s *secrets) make(what, form string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cores == nil {
		s.cores = make(map[string]string)
	}
	core := fmt.Sprintf("Sq7%dXcoreW%dk", 100+len(s.cores), 200+len(s.cores))
	s.cores[core] = what
	return strings.Replace(form, "CORE", core, 1)
}

var (
	percents = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	escapes  = regexp.MustCompile(`\\u00[0-9A-Fa-f]{2}`)
)

// find returns which of the secrets are in a text: as they are, with any
// letters' case, escaped for URLs up to four times or for JSON, or in base64.
func (s *secrets) find(text string) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unescape := func(skip int) func(string) string {
		return func(e string) string {
			n, _ := strconv.ParseUint(e[skip:], 16, 8)
			return string(rune(n))
		}
	}
	var layers []string
	for range 5 {
		layers = append(layers, strings.ToLower(text))
		text = percents.ReplaceAllStringFunc(escapes.ReplaceAllStringFunc(text, unescape(4)), unescape(1))
	}
	for core, what := range s.cores {
		for _, layer := range layers {
			if strings.Contains(layer, strings.ToLower(core)) {
				found = append(found, what+" ("+core+")")
				break
			}
		}
		for shift := range 3 {
			// What the bytes beside it have no part in.
			coded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + core))
			coded = coded[(shift*8+5)/6 : len(coded)-2]
			if strings.Contains(layers[0], strings.ToLower(coded)) {
				found = append(found, what+" (base64 of "+core+")")
			}
		}
	}
	return found
}

// escaped writes every byte as an escape.
func escaped(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

func TestSecretsAreFound(t *testing.T) {
	var s secrets
	token := s.make("a token", "a+b/CORE==")
	core := strings.TrimSuffix(strings.TrimPrefix(token, "a+b/"), "==")
	quoted, _ := json.Marshal("<" + token + ">")
	for what, text := range map[string]string{
		"plain": token, "in part": core, "small letters": strings.ToLower(token), "escaped": url.QueryEscape(token),
		"three times": url.QueryEscape(url.QueryEscape(url.QueryEscape(token))), "all of it": escaped(token),
		"all of it, twice": url.QueryEscape(escaped(token)), "JSON": string(quoted),
		"JSON, letter by letter": strings.ReplaceAll(escaped(token), "%", `\u00`),
		"base64":                 base64.StdEncoding.EncodeToString([]byte(token)), "base64, shifted": base64.URLEncoding.EncodeToString([]byte("x" + token + "y")),
		"basic credentials": base64.StdEncoding.EncodeToString([]byte("me:" + core)),
	} {
		if len(s.find(text)) == 0 {
			t.Errorf("%s: not found in %s", what, text)
		}
	}
	if found := s.find("a+b/Sq7100Xcore"); len(found) > 0 {
		t.Errorf("found %v where there is none", found)
	}
}

// logFormat is the log format that the README and the examples have.
func logFormat(t *testing.T) string {
	t.Helper()
	const format = "format plexlb"
	for _, file := range []string{"README.md", "examples/logging/Caddyfile"} {
		raw, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), format+"\n") {
			t.Errorf("%s does not have %q", file, format)
		}
	}
	return format
}

// outputs are all that a Caddy lets out, to whomever.
type outputs struct {
	mu sync.Mutex
	by map[string]*bytes.Buffer
}

func (o *outputs) add(name, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.by == nil {
		o.by = make(map[string]*bytes.Buffer)
	}
	if o.by[name] == nil {
		o.by[name] = new(bytes.Buffer)
	}
	o.by[name].WriteString(text + "\n")
}

// ServeHTTP takes in events.
func (o *outputs) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	o.add("events", fmt.Sprint(r.URL, r.Header, string(body)))
}

// RoundTrip takes in what Caddy answers itself.
func (o *outputs) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && res.Header.Get("X-Plextest-Server") == "" && res.StatusCode >= 400 {
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(body))
		o.add("error pages", fmt.Sprint(res.StatusCode, res.Header, string(body)))
	}
	return res, err
}

// Everything happens, with all logs at debug, and no token is in any of them
// nor in anything else that is let out.
func TestNoTokenAnywhere(t *testing.T) {
	for _, mode := range []string{"separate", "replicated"} {
		t.Run(mode, func(t *testing.T) { noToken(t, mode) })
	}
}

func noToken(t *testing.T, mode string) {
	var secret secrets
	var out outputs
	hook := httptest.NewServer(&out)
	t.Cleanup(hook.Close)

	// Everybody has a token of their own, and so has each server's owner.
	owners := []string{secret.make("the owner's", "own_CORE"), secret.make("the owner's for one server", "own-CORE.x"), secret.make("the owner's, in the policy", "own+CORE")}
	kinds := plextest.Kinds()
	users := make([]string, len(kinds))
	for i, kind := range kinds {
		form := []string{"CORE-usr_1", "usr.CORE.sig", "eyJ-CORE_x.y-z"}[i%3]
		users[i] = secret.make("that of "+string(kind), form)
	}
	places := secret.make("one in odd places", "odd+/CORE=")
	refused := secret.make("a refused one", "no/CORE")
	cookie := secret.make("one in a cookie", "CORE")
	bearer := secret.make("one in a header for credentials", "CORE")
	transient := secret.make("a transient one", "transient-CORE")
	servers := stand(t, 3, func(i int, cfg *plextest.Config) {
		cfg.Token = owners[min(i, 1)]
		cfg.UserTokens = append(users, places, owners[0], owners[1])
		if mode == "replicated" {
			cfg.MachineIdentifier, cfg.Database = "clone", "clone"
		}
	})

	dir := t.TempDir()
	filter := logFormat(t)
	log := func(name, more, format string) string {
		return "log " + more + " {\nlevel DEBUG\noutput file " + filepath.Join(dir, name) + "\n" + format + "\n}\n"
	}
	m := &managed{balancer: &balancer{t: t, addr: freeAddr(t)}, admin: freeAddr(t), servers: servers}
	m.URL = "http://" + m.addr
	side := freeAddr(t)
	t.Setenv("OWNER", owners[0])
	t.Setenv("OWNER2", owners[1])
	t.Setenv("OWNER3", owners[2])
	option := "plexlb {\ntoken {env.OWNER}\npoll_interval 300ms\npoll_timeout 1s\nmode " + mode
	if mode == "replicated" {
		option += " plex1"
	}
	option += fmt.Sprintf("\nserver plex1 %s\nserver plex2 %s {\ntoken {env.OWNER2}\n}\nserver plex3 %s {\ntoken {env.OWNER2}\nmax_transcodes 1\n}\n}\n", servers[0].Addr(), servers[1].Addr(), servers[2].Addr())
	for _, e := range []string{"server_up", "server_down", "server_drained", "server_degraded", "session_moved", "session_lost"} {
		option += "events {\non plexlb." + e + " plexlb_webhook " + hook.URL + "\n}\n"
	}
	option = strings.ReplaceAll(option, "}\nevents {\n", "") // one block for all
	option = strings.Replace(option, "on plexlb.server_up", "}\nevents {\non plexlb.server_up", 1)
	handlers := log("access.log", "", filter) + `
		log_append plex_server {http.plexlb.server}
		log_append plex_reason {http.plexlb.reason}
		log_append plex_session {http.plexlb.session}
		log_append plex_kind {http.plexlb.kind}
		handle_errors {
			respond "{err.status_code} {err.status_text} {err.message} {err.trace} {http.plexlb.server} {http.plexlb.reason} {http.plexlb.session}"
		}
		redir /moved* https://elsewhere.example{uri}
		@rewritten path /rewritten*
		handle @rewritten {
			uri strip_prefix /rewritten
			plexlb
		}
		handle {
			plexlb
		}
	`
	// A proxy of somebody's own, with a token in its policy and no handler, and
	// one whose server answers with a redirect.
	own := "http://" + side + " {\n" + strings.ReplaceAll(log("side.log", "", filter), "log  ", "log ") + "reverse_proxy /moved* " + m.addr + "\nreverse_proxy " + servers[1].Addr() + " {\nlb_policy least_transcodes {\ntoken {env.OWNER3}\n}\n}\n}\n"
	config := m.with(option, handlers, own)
	config = strings.Replace(config, "log {\n\t\toutput discard\n\t}", log("default.log", "", filter)+
		log("own.log", "own", "include plexlb http.handlers.plexlb http.reverse_proxy.selection_policies admin.api.plexlb events\nformat json")+
		log("raw.log", "raw", "format json"), 1)
	if err := m.reload(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	defer func() {
		if t.Failed() && os.Getenv("KEEP_LOGS") != "" {
			_ = os.CopyFS(os.Getenv("KEEP_LOGS"), os.DirFS(dir))
		}
	}()

	client := &http.Client{Transport: &out, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(base, method, target string, header ...string) int {
		t.Helper()
		r, err := http.NewRequest(method, base, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL, err = url.ParseRequestURI(base + target); err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header[header[i]] = append(r.Header[header[i]], header[i+1]) // to the letter
		}
		res, err := client.Do(r)
		if err != nil {
			return 0
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return res.StatusCode
	}
	viewer := func(i int, seed uint64) *plextest.Viewer {
		kind := kinds[i%len(kinds)]
		v := plextest.NewViewer(kind, m.URL, users[i%len(users)], kind.Item(), seed)
		v.HTTP = client
		t.Cleanup(v.Close)
		return v
	}

	// Every kind of client does all that it does.
	for i := range kinds {
		v := viewer(i, uint64(i))
		if err := v.Start(t.Context()); err != nil {
			t.Fatalf("%s: %v", v.Kind, err)
		}
		for _, state := range []string{"playing", "paused"} {
			_ = v.Segment(t.Context(), 1)
			_ = v.Timeline(t.Context(), state)
		}
		_, _ = v.Ping(t.Context()), v.Seek(t.Context(), 40)
		if v.Kind != plextest.DirectPlay {
			_ = v.ChangeQuality(t.Context(), 2000)
		}
		_, _ = v.Segment(t.Context(), 41), v.Stop(t.Context())
	}
	inOddPlaces(ask, m.URL, places)
	inOddPlaces(ask, "http://"+side, places)
	inOddPlaces(ask, m.URL, refused)
	inOddPlaces(ask, m.URL, transient)
	for _, base := range []string{m.URL, "http://" + side} {
		ask(base, "GET", "/library/sections", "Cookie", "token="+cookie+"; a=b", "Authorization", "Bearer "+bearer)
	}
	malformed(t, m.addr, refused)

	// Playbacks are carried, lost, moved and found again.
	var playing []*plextest.Viewer
	for i := range kinds {
		v := viewer(i, uint64(100+i))
		if err := v.Start(t.Context()); err != nil {
			t.Fatalf("%s: %v", v.Kind, err)
		}
		_ = v.Segment(t.Context(), 0)
		playing = append(playing, v)
	}
	if mode == "replicated" {
		_ = playing[0].ChooseStreams(t.Context(), "1", "2")
	}
	time.Sleep(time.Second)
	goOn := func(n int, patience time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var wg sync.WaitGroup
		for _, v := range playing {
			wg.Go(func() {
				_ = v.Segment(ctx, n)
				_ = v.Timeline(ctx, "playing")
			})
		}
		wg.Wait()
	}
	command := func(args ...string) {
		stdout, stderr, _ := m.run(append([]string{"plexlb"}, args...)...)
		out.add("commands", stdout+stderr)
	}
	calls := func() {
		for _, call := range [][3]string{
			{"GET", "/plexlb/servers", ""}, {"GET", "/plexlb/servers/plex2", ""}, {"GET", "/plexlb/servers/none", ""}, {"GET", "/plexlb/sessions", ""},
			{"GET", "/plexlb/sessions/" + playing[0].TSID, ""}, {"POST", "/plexlb/sessions/" + playing[1].TSID + "/move", `{"server":"plex2"}`},
			{"POST", "/plexlb/sessions/" + playing[6].TSID + "/move", `{"server":"plex1"}`}, {"POST", "/plexlb/rebalance", "{}"},
			{"POST", "/plexlb/servers/plex1/drain", `{"move":`}, {"PUT", "/plexlb/servers", ""}, {"GET", "/metrics", ""},
		} {
			r, _ := http.NewRequest(call[0], "http://"+m.admin+call[1], strings.NewReader(call[2]))
			r.Close = true
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			out.add("admin API", fmt.Sprint(call, res.Header, string(body)))
		}
		for _, args := range [][]string{{"status"}, {"status", "--json"}, {"sessions", "--all"}, {"sessions", "--json"}, {"explain", playing[0].TSID}, {"explain", playing[2].TSID, "--json"}} {
			command(args...)
		}
	}
	calls()
	servers[0].Forget() // as PMS was restarted
	servers[2].Forget()
	goOn(1, 4*time.Second)
	addr := servers[1].Addr()
	servers[1].Close()
	goOn(2, 17*time.Second) // in mode separate, what was there is lost after a while
	if err := servers[1].StartOn(addr); err != nil {
		t.Fatal(err)
	}
	calls()
	if mode == "replicated" {
		command("drain", "plex2", "--move")
	} else {
		command("drain", "plex2", "--move") // not possible
		command("drain", "plex2")
	}
	command("rebalance")
	goOn(4, 4*time.Second)
	command("undrain", "plex2")

	// Degradations, in the log, the metrics and the events.
	servers[0].SetPoll(plextest.Poll401)
	servers[1].SetPoll(plextest.Poll403)
	servers[2].FailStarts(500)
	for i := range 4 {
		_ = viewer(i, uint64(200+i)).Start(t.Context())
	}
	for _, s := range servers {
		s.SetTranscodeLimit(1)
	}
	_ = viewer(4, 204).Start(t.Context())
	time.Sleep(2 * time.Second)
	calls()
	for _, s := range servers {
		s.SetPoll(plextest.PollGood)
		s.FailStarts(0)
		s.SetTranscodeLimit(0)
		s.SetMaintenance(true)
	}
	_ = viewer(5, 205).Start(t.Context())
	time.Sleep(time.Second)
	for _, s := range servers {
		s.SetMaintenance(false)
	}

	// A Caddy without memory looks for what plays.
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := m.reload(config); err != nil {
		t.Fatal(err)
	}
	goOn(5, 4*time.Second)
	calls()
	for _, s := range servers { // and all is lost
		s.Close()
	}
	goOn(6, 3*time.Second)
	late := time.AfterFunc(6*time.Second, func() { _ = caddy.Stop() })
	inOddPlaces(ask, m.URL, places)
	if late.Stop() {
		_ = caddy.Stop()
	}

	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	// The test is worth something if all of them were there to be found.
	raw := read("raw.log")
	for core, what := range secret.cores {
		sent := what != "the owner's" && !strings.HasPrefix(what, "the owner's,") && !strings.HasPrefix(what, "the owner's for") &&
			what != "one in a cookie" && what != "one in a header for credentials" // Caddy leaves these two out itself
		if sent && !strings.Contains(raw, core) {
			t.Errorf("%s is not in Caddy's own debug log: it was not sent in a way that could be logged", what)
		}
	}
	own1 := read("own.log")
	for _, line := range []string{"playback placed", "playback resumed", "playback moved to another server", "playback lost", "server is degraded", "server is down"} {
		if mode == "separate" && line == "playback moved to another server" {
			line = "client placed"
		}
		if !strings.Contains(own1, `"`+line+`"`) {
			t.Errorf("nothing has led to %q", line)
		}
	}
	for _, name := range []string{"own.log", "default.log", "access.log", "side.log"} {
		out.add(name, read(name))
	}
	for _, name := range []string{"own.log", "default.log", "access.log", "side.log", "events", "error pages", "admin API", "commands"} {
		if out.by[name] == nil || out.by[name].Len() < 100 {
			t.Errorf("%s: there is nothing in it", name)
			continue
		}
		shown := 0
		for _, line := range strings.Split(out.by[name].String(), "\n") {
			if found := secret.find(line); len(found) > 0 {
				if shown++; shown <= 8 {
					t.Errorf("%s holds %v: %.900s", name, found, line)
				}
			}
		}
	}
}

// inOddPlaces sends a token in all the ways that have been seen, and some that
// are only possible.
func inOddPlaces(ask func(base, method, target string, header ...string) int, base, token string) {
	e := url.QueryEscape(token)
	photo := "/library/metadata/1/thumb/1?X-Plex-Token=" + e + "&size=9"
	deep := "http://127.0.0.1:32400/photo/:/transcode?url=" + url.QueryEscape(photo) + "&width=1"
	for _, target := range []string{
		"/library/sections?X-Plex-Token=" + e,
		"/library/sections?x-plex-token=" + e + "&a=b",
		"/library/sections?a=b&X-PLEX-TOKEN=" + e + "&c=d",
		"/library/sections?a=b;X-Plex-Token=" + e + ";c=d",
		"/library/sections?X-Plex-Token=" + escaped(token),
		"/library/sections?X%2DPlex%2DToken=" + e,
		"/library/sections?x%2dplex%2dtoken=" + escaped(token) + "&c=d",
		"/library/sections?X-Plex-Token%3D" + e,
		"/library/sections?X-Plex-Token=" + e + "&X-Plex-Token=" + e,
		"/library/sections?X-Plex-Token=%zz" + e,
		"/player/playback/playMedia?token=" + e + "&X-Plex-Token=" + e,
		"/myplex/account?auth_token=" + e + "&authToken=" + e,
		"/photo/:/transcode?width=9&height=9&url=" + url.QueryEscape(photo) + "&x=y",
		"/photo/:/transcode?width=9&height=9&url=" + url.QueryEscape(deep) + "&X-Plex-Token=" + e,
		"/photo/:/transcode?width=9&height=9&url=" + url.QueryEscape(url.QueryEscape(deep)),
		"/library/parts/1/1/file.mkv;X-Plex-Token=" + e,
		"/library/parts/1/1/X-Plex-Token=" + e + "/file.mkv",
		"/library/metadata/1%3FX-Plex-Token=" + e,
		"/:/timeline?state=playing&ratingKey=1&X-Plex-Token=" + e,
		"/:/scrobble?key=1&identifier=com.plexapp.plugins.library&X-Plex-Token=" + e,
		"/video/:/transcode/universal/decision?path=%2Flibrary%2Fmetadata%2F1&session=odd&X-Plex-Token=" + e,
		"/video/:/transcode/universal/start.m3u8?path=" + url.QueryEscape("/library/metadata/1?X-Plex-Token="+e) + "&session=odd&X-Plex-Client-Identifier=odd&X-Plex-Token=" + e,
		"/video/:/transcode/universal/session/unknown/base/00001.ts?X-Plex-Token=" + e,
		"/moved?X-Plex-Token=" + e,
		"/rewritten/library/sections?X-Plex-Token=" + e,
		"/:/websockets/notifications?X-Plex-Token=" + e,
	} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			ask(base, method, target, "Referer", base+target, "Origin", base)
		}
	}
	for _, name := range []string{"X-Plex-Token", "x-plex-token", "X-PLEX-TOKEN", "x-Plex-tOken"} {
		ask(base, "GET", "/library/sections", name, token)
		ask(base, "GET", "/video/:/transcode/universal/decision?path=%2Flibrary%2Fmetadata%2F1&session=odd", name, token, name, token)
	}
	ask(base, "GET", "/library/sections", "X-Forwarded-Uri", photo, "Cookie", "X-Plex-Token="+token)
}

// malformed sends what is no request, with a token in it.
func malformed(t *testing.T, addr, token string) {
	t.Helper()
	for _, text := range []string{
		"GET /library/sections?X-Plex-Token=" + token + "\r\n\r\n",
		"GET /library sections?X-Plex-Token=" + token + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n",
		"GET /?X-Plex-Token=" + token + " HTTP/1.1\r\nX-Plex-Token " + token + "\r\n\r\n",
		"GET /?X-Plex-Token=" + token + " HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET /%?X-Plex-Token=" + token + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n",
		"AVERYLONGMETHODTHATISNOTONEATALLANDISREJECTED /?X-Plex-Token=" + token + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n",
		"GET http://" + addr + "/?X-Plex-Token=" + token + " HTTP/1.1\r\nHost: " + addr + "\r\nConnection: close\r\n\r\n",
		// To no site: in Caddy, the log of a request whose body breaks off races
		// with the sending of that body.
		"POST /?X-Plex-Token=" + token + " HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nX-Plex",
		"GET /?X-Plex-Token=" + token + " HTTP/1.1\r\nHost: " + addr + "\r\nx-plex-TOKEN: " + token + "\r\nConnection: close\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
}
