package plexlb

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// wellPreferences are those of a server that is set up as the README says.
var wellPreferences = plex.Preferences{
	plex.PrefHardware: "true", plex.PrefEncoders: "true", plex.PrefRemuxOnly: "false", plex.PrefTranscodes: "0",
	plex.PrefRelay: "false", plex.PrefPublished: "false", plex.PrefAccessURLs: "https://plex.example.com:443",
	plex.PrefWithoutAuth: "", plex.PrefSecure: "1", plex.PrefLAN: "",
}

// well are facts with which nothing is wrong: two clones, or two servers of
// their own.
func well(replicated bool) *facts {
	f := &facts{replicated: replicated, pollTimeout: 3 * time.Second, patience: 5 * time.Second}
	for i, name := range []string{"plex1", "plex2"} {
		s := serverFacts{name: name, host: name + ":32400", named: true, asked: true, token: true, everRead: true, prefs: maps.Clone(wellPreferences)}
		s.greeting = plex.Greeting{Dated: true, Connected: true, Local: netip.MustParseAddr("10.0.0.5")}
		s.greeting.MachineIdentifier, s.greeting.Version = "clone", "1.43.3"
		if !replicated {
			s.greeting.MachineIdentifier = "machine" + strconv.Itoa(i+1)
		}
		f.servers = append(f.servers, s)
	}
	return f
}

// diagnoses are what the doctor has to say when the first server, or the
// whole, is changed in one way.
var diagnoses = map[string]struct {
	replicated bool
	change     func(f *facts, s *serverFacts)
	want       string // "level server check", comma separated; - for the whole
	says       []string
}{
	"two servers": {false, func(*facts, *serverFacts) {}, "", nil},
	"two clones":  {true, func(*facts, *serverFacts) {}, "", nil},
	"no servers":  {false, func(f *facts, _ *serverFacts) { f.servers = nil }, "warning - no_servers", nil},

	"nothing listens":          {false, func(_ *facts, s *serverFacts) { fails(s, "refused", false) }, "error plex1 unreachable", []string{"Nothing takes connections at plex1:32400"}},
	"no answer to connections": {false, func(_ *facts, s *serverFacts) { fails(s, "timeout", false) }, "error plex1 unreachable", []string{"no answer from plex1:32400"}},
	"hangs":                    {false, func(_ *facts, s *serverFacts) { fails(s, "timeout", true) }, "error plex1 unreachable", []string{"did not answer within 5s"}},
	"no route":                 {false, func(_ *facts, s *serverFacts) { fails(s, "unreachable", false) }, "error plex1 unreachable", []string{"no way to plex1:32400"}},
	"breaks off":               {false, func(_ *facts, s *serverFacts) { fails(s, "unreachable", true) }, "error plex1 unreachable", []string{"breaks them off"}},
	"unknown name":             {false, func(_ *facts, s *serverFacts) { fails(s, plex.FaultNoName, false) }, "error plex1 unreachable", []string{"The name plex1 cannot"}},
	"another program":          {false, func(_ *facts, s *serverFacts) { fails(s, "not_pms", true) }, "error plex1 not_plex", nil},
	"an error page":            {false, func(_ *facts, s *serverFacts) { fails(s, "status", true) }, "error plex1 not_plex", nil},
	"no identity there":        {false, func(_ *facts, s *serverFacts) { fails(s, "not_found", true) }, "error plex1 not_plex", nil},
	"migrates":                 {false, func(_ *facts, s *serverFacts) { fails(s, "maintenance", true) }, "warning plex1 maintenance", nil},
	"migrates, but says who":   {false, func(_ *facts, s *serverFacts) { s.sessions, s.root = "maintenance", "maintenance" }, "warning plex1 maintenance", nil},
	"one without name that is gone": {false, func(_ *facts, s *serverFacts) {
		fails(s, "refused", false)
		s.named = false
	}, "warning plex1 unreachable", []string{"ten minutes"}},
	"one without name that is another program": {false, func(_ *facts, s *serverFacts) {
		fails(s, "not_pms", true)
		s.named = false
	}, "error plex1 not_plex", nil},
	"unreachable tells no more": {true, func(_ *facts, s *serverFacts) {
		fails(s, "refused", false)
		s.token, s.prefs = false, nil
	}, "error plex1 unreachable", nil},

	"certificate of plex.direct": {false, func(_ *facts, s *serverFacts) {
		fails(s, plex.FaultWrongName, true)
		s.names = []string{"*.0123abc.plex.direct"}
	}, "error plex1 tls_name", []string{"is for *.0123abc.plex.direct, not for plex1:32400", "followed by .0123abc.plex.direct"}},
	"certificate for others": {false, func(_ *facts, s *serverFacts) {
		fails(s, plex.FaultWrongName, true)
		s.names = []string{"a", "b", "c", "d", "e"}
	}, "error plex1 tls_name", []string{"a, b, c and 2 more", "tls_server_name"}},
	"certificate for nobody": {false, func(_ *facts, s *serverFacts) { fails(s, plex.FaultWrongName, true) }, "error plex1 tls_name", []string{"for nobody"}},
	"own authority":          {false, func(_ *facts, s *serverFacts) { fails(s, plex.FaultUntrusted, true) }, "error plex1 tls_untrusted", []string{"tls_trust_pool"}},
	"old certificate":        {false, func(_ *facts, s *serverFacts) { fails(s, plex.FaultExpired, true) }, "error plex1 tls_expired", nil},
	"odd certificate":        {false, func(_ *facts, s *serverFacts) { fails(s, plex.FaultCertificate, true) }, "error plex1 tls_failed", nil},
	"plain at https":         {false, func(_ *facts, s *serverFacts) { fails(s, plex.FaultPlain, true) }, "error plex1 tls_not_spoken", []string{"http://plex1:32400"}},
	"TLS at http, 400": {false, func(_ *facts, s *serverFacts) {
		fails(s, "status", true)
		s.tls = true
	}, "error plex1 tls_needed", nil},
	"TLS at http, broken off": {false, func(_ *facts, s *serverFacts) {
		fails(s, "unreachable", true)
		s.tls = true
	}, "error plex1 tls_needed", nil},

	"no token":              {false, func(_ *facts, s *serverFacts) { s.token = false }, "warning plex1 token_missing", nil},
	"unknown token":         {false, func(_ *facts, s *serverFacts) { s.root, s.sessions = "unauthorized", "unauthorized" }, "error plex1 token_rejected", nil},
	"forbidden token":       {false, func(_ *facts, s *serverFacts) { s.root, s.sessions = "forbidden", "forbidden" }, "error plex1 token_rejected", nil},
	"a friend's token":      {false, func(_ *facts, s *serverFacts) { s.sessions, s.preferences = "forbidden", "forbidden" }, "error plex1 token_not_owner", nil},
	"a friend's token, 401": {false, func(_ *facts, s *serverFacts) { s.sessions = "unauthorized" }, "error plex1 token_not_owner", nil},
	"sessions fail":         {false, func(_ *facts, s *serverFacts) { s.sessions = "status" }, "error plex1 sessions_unreadable", []string{"(status)"}},
	"sessions hang":         {false, func(_ *facts, s *serverFacts) { s.sessions = "timeout" }, "error plex1 sessions_unreadable", []string{"(timeout)"}},
	"sessions come late":    {false, func(_ *facts, s *serverFacts) { s.took, s.unread = 3210*time.Millisecond, "timeout" }, "warning plex1 slow", []string{"took 3.2s", "(3s)"}},
	"sessions come in time": {false, func(_ *facts, s *serverFacts) { s.took = 2900 * time.Millisecond }, "", nil},
	"never read":            {false, func(_ *facts, s *serverFacts) { s.everRead, s.unread = false, "refused" }, "info plex1 not_read", []string{"so far (refused)"}},
	"not read yet":          {false, func(_ *facts, s *serverFacts) { s.everRead = false }, "", nil},
	"last not read":         {false, func(_ *facts, s *serverFacts) { s.unread = "timeout" }, "info plex1 not_read", []string{"the last time (timeout)"}},

	"another server": {false, func(_ *facts, s *serverFacts) { s.expect = "wanted" }, "error plex1 other_server", []string{"machine1", "wanted"}},
	"the server":     {false, func(_ *facts, s *serverFacts) { s.expect = "machine1" }, "", nil},
	"another clone, and that is all there is to say": {true, func(_ *facts, s *serverFacts) {
		s.expect, s.greeting.MachineIdentifier, s.greeting.Version = "clone", "other", "0.1"
	}, "error plex1 other_server", nil},
	"clones that are none": {true, func(_ *facts, s *serverFacts) { s.greeting.MachineIdentifier = "other" }, "error - identities_differ", []string{"other for plex1; clone for plex2"}},
	"one server twice":     {false, func(_ *facts, s *serverFacts) { s.greeting.MachineIdentifier = "machine2" }, "error - same_server", []string{"plex1 and plex2"}},
	"clones of versions":   {true, func(_ *facts, s *serverFacts) { s.greeting.Version = "1.40" }, "warning - versions_differ", []string{"1.40 for plex1; 1.43.3 for plex2", "may"}},
	"servers of versions":  {false, func(_ *facts, s *serverFacts) { s.greeting.Version = "1.40" }, "info - versions_differ", nil},
	"a version not told":   {true, func(_ *facts, s *serverFacts) { s.greeting.Version = "" }, "", nil},

	"no hardware":            {false, prefer(plex.PrefHardware, "false"), "warning plex1 hardware_off", nil},
	"hardware decodes only":  {false, prefer(plex.PrefEncoders, "0"), "warning plex1 hardware_off", []string{"only decodes"}},
	"no transcoding":         {false, prefer(plex.PrefRemuxOnly, "1"), "warning plex1 transcoding_off", nil},
	"a limit not known here": {false, prefer(plex.PrefTranscodes, "4"), "warning plex1 transcode_limit", []string{"Set max_transcodes 4"}},
	"a limit above Plex's": {false, func(_ *facts, s *serverFacts) { s.prefs[plex.PrefTranscodes], s.limit = "4", 6 },
		"warning plex1 transcode_limit", []string{"max_transcodes is 6"}},
	"a limit that is Plex's": {false, func(_ *facts, s *serverFacts) { s.prefs[plex.PrefTranscodes], s.limit = "4", 4 }, "", nil},
	"a limit below Plex's":   {false, func(_ *facts, s *serverFacts) { s.prefs[plex.PrefTranscodes], s.limit = "4", 2 }, "", nil},
	"a limit here only":      {false, func(_ *facts, s *serverFacts) { s.limit = 2 }, "", nil},
	"a limit of a server without name": {false, func(_ *facts, s *serverFacts) { s.prefs[plex.PrefTranscodes], s.named = "4", false },
		"warning plex1 transcode_limit", []string{"Name the server"}},
	"relay":                       {false, prefer(plex.PrefRelay, "true"), "warning plex1 relay_on", []string{"may"}},
	"published":                   {false, prefer(plex.PrefPublished, "true"), "warning plex1 published", []string{"may"}},
	"published clone":             {true, prefer(plex.PrefPublished, "true"), "warning plex1 published", []string{"overwrite"}},
	"no access URL":               {false, prefer(plex.PrefAccessURLs, " , "), "warning plex1 access_url_missing", nil},
	"access URL without port":     {false, prefer(plex.PrefAccessURLs, "https://plex.example.com"), "warning plex1 access_url_missing", []string{"port"}},
	"one of two without scheme":   {false, prefer(plex.PrefAccessURLs, "https://plex.example.com:443, plex1.example.com:443"), "warning plex1 access_url_missing", nil},
	"two access URLs":             {false, prefer(plex.PrefAccessURLs, "https://plex.example.com:443, http://[::1]:32400/,"), "", nil},
	"Caddy allowed without auth":  {false, prefer(plex.PrefWithoutAuth, "10.0.0.0/255.255.255.0"), "error plex1 allowed_without_auth", []string{"10.0.0.5", "may"}},
	"others allowed without auth": {false, prefer(plex.PrefWithoutAuth, "10.0.1.0/24"), "", nil},
	"address not known": {false, func(_ *facts, s *serverFacts) {
		s.prefs[plex.PrefWithoutAuth], s.greeting.Local = "0.0.0.0/0", netip.Addr{}
	}, "", nil},
	"Caddy not at home": {false, prefer(plex.PrefLAN, "192.168.1.0/24, 10.0.1.0/255.255.255.0"), "warning plex1 lan_without_caddy", []string{"10.0.0.5", "may"}},
	"Caddy at home":     {false, prefer(plex.PrefLAN, "192.168.1.0/24,10.0.0.0/255.255.255.0"), "", nil},
	"whether at home not known": {false, func(_ *facts, s *serverFacts) {
		s.prefs[plex.PrefLAN], s.greeting.Local = "192.168.1.0/24", netip.Addr{}
	}, "", nil},
	"Caddy by IPv6": {false, func(_ *facts, s *serverFacts) { s.greeting.Local = netip.MustParseAddr("fd00::5") },
		"warning plex1 forwarded_ignored", []string{"from fd00::5,", "may"}},
	"Caddy by IPv6, not read": {false, func(_ *facts, s *serverFacts) { s.greeting.Local, s.token = netip.MustParseAddr("::1"), false },
		"warning plex1 forwarded_ignored, warning plex1 token_missing", nil},
	"Caddy by the internet":  {false, func(_ *facts, s *serverFacts) { s.greeting.Local = netip.MustParseAddr("203.0.113.7") }, "warning plex1 forwarded_ignored", nil},
	"Caddy by mapped IPv4":   {false, func(_ *facts, s *serverFacts) { s.greeting.Local = netip.MustParseAddr("::ffff:192.168.1.5") }, "", nil},
	"TLS required":           {false, prefer(plex.PrefSecure, "0"), "warning plex1 secure_required", []string{"may"}},
	"TLS required and given": {false, func(_ *facts, s *serverFacts) { s.prefs[plex.PrefSecure], s.https = "0", true }, "", nil},
	"TLS disabled":           {false, prefer(plex.PrefSecure, "2"), "", nil},

	"settings not told": {false, func(_ *facts, s *serverFacts) { s.prefs = plex.Preferences{plex.PrefRelay: "false"} }, "info plex1 preferences_unknown", []string{plex.PrefHardware}},
	"settings not read": {false, func(_ *facts, s *serverFacts) { s.prefs, s.preferences = nil, "timeout" }, "info plex1 preferences_unknown", []string{"(timeout)"}},

	"clock ahead":    {false, func(_ *facts, s *serverFacts) { s.greeting.Ahead = time.Hour }, "warning plex1 clock_skew", []string{"1h0m0s ahead of"}},
	"clock behind":   {false, func(_ *facts, s *serverFacts) { s.greeting.Ahead = -31 * time.Second }, "warning plex1 clock_skew", []string{"31s behind"}},
	"clock near":     {false, func(_ *facts, s *serverFacts) { s.greeting.Ahead = 29 * time.Second }, "", nil},
	"clock not told": {false, func(_ *facts, s *serverFacts) { s.greeting.Ahead, s.greeting.Dated = time.Hour, false }, "", nil},
	"not asked":      {true, func(_ *facts, s *serverFacts) { *s = serverFacts{name: "plex1"} }, "info plex1 not_checked", nil},

	"a proxy that is not believed": {false, func(f *facts, _ *serverFacts) { f.proxy = netip.MustParseAddr("10.0.0.9") },
		"warning - proxy_untrusted", []string{"trusted_proxies static 10.0.0.9", "If that is a proxy"}},
	"everybody is believed": {false, func(f *facts, _ *serverFacts) { f.trusting = []string{"HTTP server srv0"} },
		"warning - everybody_trusted", []string{"HTTP server srv0"}},

	"the worst comes first": {true, func(f *facts, s *serverFacts) {
		s.greeting.Version, s.prefs[plex.PrefRelay] = "1.40", "true"
		f.servers[1].prefs[plex.PrefWithoutAuth] = "10.0.0.5"
		delete(f.servers[1].prefs, plex.PrefRelay)
	}, "error plex2 allowed_without_auth, warning - versions_differ, warning plex1 relay_on, info plex2 preferences_unknown", nil},
}

func fails(s *serverFacts, fault string, connected bool) {
	s.fault, s.greeting = fault, plex.Greeting{Connected: connected}
}

func prefer(name, value string) func(*facts, *serverFacts) {
	return func(_ *facts, s *serverFacts) { s.prefs[name] = value }
}

func TestDiagnose(t *testing.T) {
	found := make(map[string]bool)
	for name, tc := range diagnoses {
		t.Run(name, func(t *testing.T) {
			f := well(tc.replicated)
			tc.change(f, &f.servers[0])
			list := diagnose(f)
			var got, text []string
			for _, one := range list {
				server := one.Server
				if server == "" {
					server = "-"
				}
				found[one.Check] = true
				got, text = append(got, one.Level+" "+server+" "+one.Check), append(text, one.What, one.Remedy)
				if !strings.HasSuffix(one.What, ".") || !strings.HasSuffix(one.Remedy, ".") {
					t.Errorf("not sentences: %q, %q", one.What, one.Remedy)
				}
			}
			if got := strings.Join(got, ", "); got != tc.want {
				t.Errorf("found\n%s, want\n%s", got, tc.want)
			}
			for _, words := range tc.says {
				if !strings.Contains(strings.Join(text, "\n"), words) {
					t.Errorf("it does not say %q:\n%s", words, strings.Join(text, "\n"))
				}
			}
			if list == nil {
				t.Error("no findings are no list")
			}
		})
	}
	for _, check := range checksOf(t) {
		if !found[check] {
			t.Errorf("%s is never found", check)
		}
	}
}

// checksOf returns the words of the constants Check….
func checksOf(t *testing.T) (words []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "checks.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Check") {
			word, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, word)
		}
		return true
	})
	if len(words) < 30 || len(slices.Compact(slices.Sorted(slices.Values(words)))) != len(words) {
		t.Errorf("the words are %v", words)
	}
	return words
}

// What servers say of themselves cannot make the output long or odd.
func TestDiagnoseShortensWhatServersSay(t *testing.T) {
	f := well(true)
	f.servers[0].greeting.Version = "\x1b[2J" + strings.Repeat("9", 5000)
	f.servers[1].greeting.MachineIdentifier = strings.Repeat("\u202e x", 5000)
	for _, one := range diagnose(f) {
		if len(one.What) > 600 || strings.ContainsAny(one.What, "\x1b\u202e") {
			t.Errorf("it says %q", one.What)
		}
	}
}
