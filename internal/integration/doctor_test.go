package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// doctor returns what the doctor finds, as "level server check", - being the
// whole, and all the sentences.
func (m *managed) doctor() (found, said string) {
	m.t.Helper()
	var list, sentences []string
	for _, f := range at(m.t, m.ok(http.MethodGet, "/plexlb/doctor", ""), "findings").([]any) {
		server := "-"
		if f.(map[string]any)["server"] != nil {
			server = at(m.t, f, "server").(string)
		}
		list = append(list, fmt.Sprintf("%v %s %v", at(m.t, f, "level"), server, at(m.t, f, "check")))
		sentences = append(sentences, fmt.Sprint(at(m.t, f, "what")), fmt.Sprint(at(m.t, f, "remedy")))
	}
	return strings.Join(list, ", "), strings.Join(sentences, "\n")
}

// finds compares what the doctor finds.
func (m *managed) finds(want string) (said string) {
	m.t.Helper()
	found, said := m.doctor()
	if found != want {
		m.t.Errorf("found\n%s, want\n%s\n%s", found, want, said)
	}
	return said
}

// patient is a config for tests in which a busy machine is not to be taken for
// a slow server.
func patient(config string) string {
	return strings.Replace(config, "poll_timeout 1s", "poll_timeout 4s", 1)
}

func TestDoctor(t *testing.T) {
	pref := func(name string, value any) func(s *plextest.Server) {
		return func(s *plextest.Server) { s.SetPreference(name, value) }
	}
	same := func(s *plextest.Server) { s.SetIdentity("clone") }
	for name, tc := range map[string]struct {
		mode   string
		change func(s *plextest.Server) // of plex1
		server string                   // more for the block of plex1
		want   string
	}{
		"two servers":               {"", nil, "", ""},
		"two clones":                {replicated, same, "", ""},
		"dead":                      {"", (*plextest.Server).Close, "", "error plex1 unreachable"},
		"maintenance":               {"", func(s *plextest.Server) { s.SetMaintenance(true) }, "", "warning plex1 maintenance"},
		"maintenance of everything": {"", func(s *plextest.Server) { s.SetMaintenance(true); s.SetMaintenanceIdentity(false) }, "", "warning plex1 maintenance"},
		"unknown token":             {"", nil, "token nobodys", "error plex1 token_rejected"},
		"a friend's token":          {"", nil, "token friends", "error plex1 token_not_owner"},
		"sessions refused":          {"", func(s *plextest.Server) { s.SetPoll(plextest.Poll401) }, "", "error plex1 token_not_owner"},
		"sessions forbidden":        {"", func(s *plextest.Server) { s.SetPoll(plextest.Poll403) }, "", "error plex1 token_not_owner"},
		"sessions are a page":       {"", func(s *plextest.Server) { s.SetPoll(plextest.PollHTML) }, "", "error plex1 sessions_unreadable"},
		"sessions are cut":          {"", func(s *plextest.Server) { s.SetPoll(plextest.PollTruncated) }, "", "error plex1 sessions_unreadable"},
		"sessions are no list":      {"", func(s *plextest.Server) { s.SetPoll(plextest.PollWrongJSON) }, "", "error plex1 sessions_unreadable"},
		"slow":                      {"", func(s *plextest.Server) { s.SetDelay(1300 * time.Millisecond) }, "", "warning plex1 slow"},
		"the identity":              {"", same, "machine_identifier clone", ""},
		"another identity":          {"", same, "machine_identifier abc", "error plex1 other_server"},
		"clones that are none":      {replicated, nil, "", "error - identities_differ"},
		"one server twice":          {"", func(s *plextest.Server) { s.SetIdentity("other") }, "", "error - same_server"},
		"another version":           {"", func(s *plextest.Server) { s.SetVersion("1.40.0") }, "", "info - versions_differ"},
		"clone of another version":  {replicated, func(s *plextest.Server) { same(s); s.SetVersion("1.40.0") }, "", "warning - versions_differ"},
		"no hardware":               {"", pref("HardwareAcceleratedCodecs", false), "", "warning plex1 hardware_off"},
		"no hardware encoding":      {"", pref("HardwareAcceleratedEncoders", false), "", "warning plex1 hardware_off"},
		"no transcoding":            {"", pref("TranscoderCanOnlyRemuxVideo", true), "", "warning plex1 transcoding_off"},
		"limit in Plex":             {"", pref("TranscodeCountLimit", 3), "", "warning plex1 transcode_limit"},
		"lower limit in Plex":       {"", pref("TranscodeCountLimit", 3), "max_transcodes 4", "warning plex1 transcode_limit"},
		"limit here":                {"", pref("TranscodeCountLimit", 3), "max_transcodes 3", ""},
		"relay":                     {"", pref("RelayEnabled", true), "", "warning plex1 relay_on"},
		"remote access":             {"", pref("PublishServerOnPlexOnlineKey", true), "", "warning plex1 published"},
		"no access URL":             {"", pref("customConnections", ""), "", "warning plex1 access_url_missing"},
		"access URL without port":   {"", pref("customConnections", "https://plex.example.com"), "", "warning plex1 access_url_missing"},
		"Caddy needs no token":      {"", pref("allowedNetworks", "10.0.0.0/8,127.0.0.0/255.0.0.0"), "", "error plex1 allowed_without_auth"},
		"others need no token":      {"", pref("allowedNetworks", "10.0.0.0/8"), "", ""},
		"Caddy is not at home":      {"", pref("LanNetworksBandwidth", "10.0.0.0/8"), "", "warning plex1 lan_without_caddy"},
		"Caddy is at home":          {"", pref("LanNetworksBandwidth", "10.0.0.0/8,127.0.0.0/8"), "", ""},
		"TLS required":              {"", pref("secureConnections", 0), "", "warning plex1 secure_required"},
		"clock":                     {"", func(s *plextest.Server) { s.SetClock(-2 * time.Minute) }, "", "warning plex1 clock_skew"},
		"clock and nothing else":    {"", func(s *plextest.Server) { s.SetClock(time.Hour); s.SetMaintenance(true) }, "", "warning plex1 clock_skew, warning plex1 maintenance"},
		"a setting is not told":     {"", func(s *plextest.Server) { s.HidePreference("RelayEnabled") }, "", "info plex1 preferences_unknown"},
		"secrets among settings": {"", func(s *plextest.Server) {
			s.SetPreference("PlexOnlineToken", token)
			s.SetPreference("customConnections", "https://"+token+"@plex.example.com:443")
			s.SetPreference("allowedNetworks", token+",127.0.0.1")
			s.SetPreference("RelayEnabled", token) // of a type that it has not
			s.SetVersion("1.40.0")
		}, "", "error plex1 allowed_without_auth, info - versions_differ, info plex1 preferences_unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &managed{admin: freeAddr(t), servers: stand(t, 2, func(i int, cfg *plextest.Config) {
				cfg.UserTokens = []string{"friends"}
				if strings.Contains(name, "clone") && i == 1 {
					cfg.MachineIdentifier = "clone"
				}
				if strings.Contains(name, "twice") && i == 1 {
					cfg.MachineIdentifier = "other"
				}
			})}
			if tc.change != nil {
				tc.change(m.servers[0])
			}
			more := strings.Replace(option(m.servers, tc.mode), m.servers[0].Addr()+"\n", m.servers[0].Addr()+" {\n"+tc.server+"\n}\n", 1)
			config := m.with(more, "\tplexlb\n", "")
			if name != "slow" {
				config = patient(config)
			}
			m.balancer = load(t, config)
			said := m.finds(tc.want)
			for _, secret := range []string{"nobodys", "friends"} {
				if strings.Contains(said, secret) {
					t.Errorf("it tells a token:\n%s", said)
				}
			}
		})
	}
}

// One that does not answer holds up nobody, and all is over in time.
func TestDoctorWaitsForNobody(t *testing.T) {
	m := &managed{admin: freeAddr(t), servers: stand(t, 4, nil)}
	m.balancer = load(t, patient(m.config("", "")))
	m.servers[0].Hang(true)
	m.servers[1].SetPoll(plextest.PollHang)
	m.servers[2].SetPreference("RelayEnabled", true)
	began := time.Now()
	said := m.finds("error plex1 unreachable, error plex2 sessions_unreadable, warning plex3 relay_on")
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	if !strings.Contains(said, "takes connections") {
		t.Errorf("it says\n%s", said)
	}
	for i, want := range []string{"plex1", "plex2", "plex3", "plex4"} {
		m.servers[i].Hang(false)
		m.servers[i].SetPoll(plextest.PollGood)
		if got := at(t, m.ok(http.MethodGet, "/plexlb/doctor", ""), "checked", i); got != want {
			t.Errorf("number %d that was checked is %v", i, got)
		}
	}
}

// A server that is not the one, or no Plex at all, is not told the token.
func TestDoctorTellsNoStrangerTheToken(t *testing.T) {
	told := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Plex-Token") != "" {
			told <- r.URL.Path
		}
		_, _ = io.WriteString(w, "Welcome")
	}))
	t.Cleanup(srv.Close)
	m := &managed{admin: freeAddr(t)}
	// The poller tells it, but only once.
	m.balancer = load(t, m.with("plexlb {\n token "+token+"\n notifications off\n poll_interval 1h\n server plex1 "+srv.Listener.Addr().String()+"\n}\n", "\trespond ok\n", ""))
	eventually(t, "the poller has asked", 5*time.Second, func() bool { return m.server("plex1").Picture.Failure != "" })
	for len(told) > 0 {
		<-told
	}
	m.finds("error plex1 not_plex")
	if len(told) > 0 {
		t.Errorf("it was told the token with %s", <-told)
	}
}

func TestDoctorAndReloads(t *testing.T) {
	m := manage(t, 2, replicated)
	if err := m.reload(patient(m.config(replicated, ""))); err != nil {
		t.Fatal(err)
	}
	m.finds("")
	broken := m.config("", "http://127.0.0.1:1 {\ntls /no/such.crt /no/such.key\n}\n")
	if err := m.reload(broken); err == nil {
		t.Fatal("a broken config was taken")
	}
	m.finds("")
	if err := m.reload(patient(m.config("", ""))); err != nil {
		t.Fatal(err)
	}
	m.finds("error - same_server")
	if err := m.reload(m.with("", "\trespond ok\n", "")); err != nil {
		t.Fatal(err)
	}
	if status, _, answer := m.call(http.MethodGet, "/plexlb/doctor", ""); status != http.StatusServiceUnavailable {
		t.Errorf("without plexlb: status %d, %v", status, answer)
	}
	if err := m.reload(m.with("plexlb\n", "\trespond ok\n", "")); err != nil {
		t.Fatal(err)
	}
	m.finds("warning - no_servers")
	if status, header, _ := m.call(http.MethodPost, "/plexlb/doctor", ""); status != http.StatusMethodNotAllowed || header.Get("Allow") != "GET" {
		t.Errorf("POST: status %d, allowed %s", status, header.Get("Allow"))
	}
}

// A server that was taken out of the config may be somebody else's: it is not
// told the token that the others have, and nothing is said of it.
func TestAServerThatWasTakenAwayIsLeftAlone(t *testing.T) {
	told := make(chan string, 100)
	friend := stand(t, 1, func(_ int, cfg *plextest.Config) { cfg.Token = "friends" })[0]
	watched := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Plex-Token") == token {
			told <- r.URL.Path
		}
		friend.ServeHTTP(w, r)
	}))
	t.Cleanup(watched.Close)
	m := manage(t, 1, "")
	theirs := fmt.Sprintf("server friend %s {\n token friends\n}\n", watched.Listener.Addr())
	if err := m.reload(m.config(theirs, "")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is read", 5*time.Second, func() bool { return !m.server("friend").Picture.Good.IsZero() })
	friend.SetIdentity("clone") // as the other one
	m.finds("error - same_server")
	if err := m.reload(patient(m.config("", ""))); err != nil {
		t.Fatal(err)
	}
	m.finds("")
	time.Sleep(2 * time.Second)
	m.finds("")
	if len(told) > 0 {
		t.Errorf("it was told the others' token with %s", <-told)
	}
	if log := fmt.Sprint(m.ok(http.MethodGet, "/plexlb/servers", "")); strings.Contains(log, "token_rejected") {
		t.Errorf("its token is said to be refused: %s", log)
	}
}

// Servers that no configuration names are checked once they are known.
func TestDoctorOfServersWithoutName(t *testing.T) {
	m := &managed{admin: freeAddr(t), servers: stand(t, 1, nil)}
	m.servers[0].SetTranscodeLimit(2)
	m.balancer = load(t, m.with("", fmt.Sprintf("plexlb_session\nreverse_proxy %s {\n lb_policy least_transcodes {\n token %s\n }\n}\n", m.servers[0].Addr(), token), ""))
	m.finds("warning - no_servers")
	m.get("/library/sections", "X-Plex-Token", token)
	said := m.finds("warning " + m.servers[0].Addr() + " transcode_limit")
	if !strings.Contains(said, "Name the server") {
		t.Errorf("it says\n%s", said)
	}
	m.servers[0].Close()
	m.finds("warning " + m.servers[0].Addr() + " unreachable")
}

func TestDoctorOnProxies(t *testing.T) {
	const untrusted, everybody = "warning - proxy_untrusted", "warning - everybody_trusted"
	for name, tc := range map[string]struct {
		global, handlers string
		ask              bool // through a proxy
		want             string
	}{
		"no proxy":                        {"", "plexlb", false, ""},
		"a proxy":                         {"", "plexlb", true, untrusted},
		"a proxy that is believed":        {"servers {\n trusted_proxies static private_ranges\n}\n", "plexlb", true, ""},
		"a proxy that reverse_proxy does": {"", "plexlb {\n trusted_proxies private_ranges\n}", true, ""},
		"one that nobody believes":        {"servers {\n trusted_proxies static 10.0.0.0/8\n}\n", "plexlb", true, untrusted},
		"everybody is believed":           {"servers {\n trusted_proxies static 0.0.0.0/0 ::/0\n}\n", "plexlb", true, everybody},
		"everybody, by reverse_proxy":     {"", "handle {\n route {\n plexlb {\n trusted_proxies 0.0.0.0/0\n }\n }\n }", false, everybody},
		"everybody, where we are not":     {"servers ELSEWHERE {\n trusted_proxies static 0.0.0.0/0\n}\n", "plexlb", false, ""},
		"through a named route":           {"servers {\n trusted_proxies static ::/0\n}\n", "invoke balanced", false, everybody},
	} {
		t.Run(name, func(t *testing.T) {
			m := &managed{admin: freeAddr(t), servers: stand(t, 1, nil)}
			config := patient(m.with(tc.global+option(m.servers, ""), tc.handlers+"\n", ""))
			if strings.Contains(tc.global, "ELSEWHERE") {
				elsewhere := freeAddr(t)
				config = strings.Replace(config, "ELSEWHERE", elsewhere[strings.LastIndex(elsewhere, ":"):], 1) + "http://" + elsewhere + " {\n respond ok\n}\n"
			}
			if strings.Contains(tc.handlers, "invoke") {
				config = strings.Replace(config, "\nHERE", "\n&(balanced) {\n plexlb\n}\nHERE", 1)
			}
			m.balancer = load(t, config)
			if tc.ask {
				m.get("/identity", "X-Forwarded-For", "203.0.113.7")
			}
			said := m.finds(tc.want)
			if tc.want == untrusted && !strings.Contains(said, "127.0.0.1") || strings.Contains(said, "203.0.113.7") {
				t.Errorf("it says\n%s", said)
			}
		})
	}
}

// authority makes certificates, and is one.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its own certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, file: filepath.Join(t.TempDir(), "authority.pem")}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// serve serves a stand-in with a certificate for a name, and returns its host
// and port.
func (a *authority) serve(s http.Handler, name string, until time.Time) string {
	a.t.Helper()
	form := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		form.IPAddresses = []net.IP{ip}
	} else {
		form.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, form, a.cert, a.key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(s)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: a.key}}}
	srv.StartTLS()
	a.t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func TestDoctorOnTLS(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	later, plexDirect := time.Now().Add(time.Hour), "*.0123456789abcdef.plex.direct"
	pms := plextest.New(plextest.Config{Name: "plex1", Token: token})
	t.Cleanup(pms.Close)
	open := stand(t, 1, nil)[0]
	trust := "tls_trust_pool file " + ours.file
	for name, tc := range map[string]struct {
		address, server string
		want            string
		says            string
	}{
		"good":              {"https://" + ours.serve(pms, "127.0.0.1", later), trust, "", ""},
		"good by name":      {"https://" + ours.serve(pms, plexDirect, later), trust + "\ntls_server_name 127-0-0-1.0123456789abcdef.plex.direct", "", ""},
		"good unverified":   {"https://" + foreign.serve(pms, "other", later), "tls_insecure_skip_verify", "", ""},
		"another name":      {"https://" + ours.serve(pms, plexDirect, later), trust, "error plex1 tls_name", ".0123456789abcdef.plex.direct"},
		"another authority": {"https://" + foreign.serve(pms, "127.0.0.1", later), trust, "error plex1 tls_untrusted", "tls_trust_pool"},
		"no authority":      {"https://" + ours.serve(pms, "127.0.0.1", later), "", "error plex1 tls_untrusted", "tls_trust_pool"},
		"expired":           {"https://" + ours.serve(pms, "127.0.0.1", time.Now().Add(-time.Minute)), trust, "error plex1 tls_expired", "Renew"},
		"plain at https":    {"https://" + open.Addr(), "", "error plex1 tls_not_spoken", "http://" + open.Addr()},
		"TLS at http":       {ours.serve(pms, "127.0.0.1", later), "", "error plex1 tls_needed", "https://"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &managed{admin: freeAddr(t)}
			m.balancer = load(t, m.with(fmt.Sprintf("plexlb {\n token %s\n server plex1 %s {\n%s\n}\n}\n", token, tc.address, tc.server), "\tplexlb\n", ""))
			if said := m.finds(tc.want); !strings.Contains(said, tc.says) {
				t.Errorf("it says\n%s, not %q", said, tc.says)
			}
		})
	}
}
