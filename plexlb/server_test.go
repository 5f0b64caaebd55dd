package plexlb

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func TestParseAddress(t *testing.T) {
	for address, want := range map[string]struct{ scheme, dial, err string }{
		"docker1:32401":               {"http", "docker1:32401", ""},
		"docker1":                     {"http", "docker1:32400", ""},
		"Docker1:032401":              {"http", "Docker1:32401", ""},
		"192.168.1.10":                {"http", "192.168.1.10:32400", ""},
		"plex.example.org:443":        {"http", "plex.example.org:443", ""},
		"http://docker1":              {"http", "docker1:80", ""},
		"http://docker1/":             {"http", "docker1:80", ""},
		"HTTP://docker1:32401":        {"http", "docker1:32401", ""},
		"https://docker1":             {"https", "docker1:443", ""},
		"https://docker1:32400/":      {"https", "docker1:32400", ""},
		"[fd00::1]":                   {"http", "[fd00::1]:32400", ""},
		"[fd00::1]:32401":             {"http", "[fd00::1]:32401", ""},
		"[fe80::1%eth0]:32401":        {"http", "[fe80::1%eth0]:32401", ""},
		"https://[fd00::1]":           {"https", "[fd00::1]:443", ""},
		"{env.PLEX1}":                 {"http", "{env.PLEX1}", ""},
		"https://{env.PLEX1}":         {"https", "{env.PLEX1}", ""},
		"{env.PLEX1}:32401":           {"http", "{env.PLEX1}:32401", ""},
		"plex{env.N}.lan":             {"http", "plex{env.N}.lan:32400", ""},
		"docker1:{env.PORT}":          {"http", "docker1:{env.PORT}", ""},
		"":                            {"", "", "is missing"},
		"/":                           {"", "", "has no host"},
		":32400":                      {"", "", "has no host"},
		"http://":                     {"", "", "has no host"},
		"docker1:":                    {"", "", "no usable port"},
		"docker1:0":                   {"", "", "no usable port"},
		"docker1:-1":                  {"", "", "no usable port"},
		"docker1:65536":               {"", "", "no usable port"},
		"docker1:plex":                {"", "", "no usable port"},
		"docker1:32400-32410":         {"", "", "no usable port"},
		"docker1/web":                 {"", "", "a path or query"},
		"docker1:32400//":             {"", "", "a path or query"},
		"docker1?X-Plex-Token=secret": {"", "", "a path or query"},
		"docker1#secret":              {"", "", "a path or query"},
		"unix//run/plex.sock":         {"", "", "a path or query"},
		"me:secret@docker1":           {"", "", "credentials"},
		"http://me:sec/ret@docker1":   {"", "", "credentials"},
		"docker1/?u=a@b&t=secret":     {"", "", "credentials"},
		"ftp://docker1":               {"", "", `the scheme "ftp"`},
		"srv+http://docker1":          {"", "", `the scheme "srv+http"`},
		"://docker1":                  {"", "", `the scheme ""`},
		"fd00::1":                     {"", "", "more than one colon"},
		"fd00::1:32400":               {"", "", "more than one colon"},
		"[fd00::1":                    {"", "", "more than one colon"},
		"[fd00::1]]:32400":            {"", "", "more than one colon"},
		"docker1:32401,docker2:32402": {"", "", "more than one colon"},
		"docker1,docker2":             {"", "", "not that of one server"},
		"docker 1:32401":              {"", "", "not that of one server"},
		"docker1\n:32401":             {"", "", "not that of one server"},
		"[docker1:32401":              {"", "", "not that of one server"},
	} {
		scheme, dial, err := ParseAddress(address)
		switch {
		case want.err == "" && err != nil:
			t.Errorf("ParseAddress(%q): %v", address, err)
		case want.err != "" && (err == nil || !strings.Contains(err.Error(), want.err)):
			t.Errorf("ParseAddress(%q): error %v, want %s", address, err, want.err)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("ParseAddress(%q) tells a secret: %v", address, err)
		case scheme != want.scheme || dial != want.dial:
			t.Errorf("ParseAddress(%q) = %q, %q, want %q, %q", address, scheme, dial, want.scheme, want.dial)
		}
	}
}

// What ParseAddress returns it takes for the same.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"docker1", "docker1:32401", "https://docker1/", "[fd00::1]", "{env.PLEX1}", "a@b", "plex{env.N}:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		scheme, dial, err := ParseAddress(address)
		if err != nil {
			return
		}
		again, same, err := ParseAddress(scheme + "://" + dial)
		if err != nil || again != scheme || same != dial {
			t.Errorf("%q is %q, %q, and that %q, %q, %v", address, scheme, dial, again, same, err)
		}
	})
}

func TestCheckServers(t *testing.T) {
	number := func(x float64) *float64 { return &x }
	for name, tc := range map[string]struct {
		servers []*Server
		err     string
	}{
		"no servers": {nil, ""},
		"two servers": {[]*Server{
			{Name: "plex1", Address: "docker1"}, {Name: "plex2", Address: "docker2", Weight: number(0.5), MaxTranscodes: 1},
		}, ""},
		"two ports of one host": {[]*Server{
			{Name: "plex1", Address: "docker1:32401"}, {Name: "plex2", Address: "docker1:32402"},
		}, ""},
		"the default port of PMS is not that of http": {[]*Server{
			{Name: "plex1", Address: "docker1"}, {Name: "plex2", Address: "http://docker1"},
		}, ""},
		"names differ in case": {[]*Server{
			{Name: "plex", Address: "docker1"}, {Name: "Plex", Address: "docker2"},
		}, ""},
		"placeholders differ in case": {[]*Server{
			{Name: "plex1", Address: "{env.plex}"}, {Name: "plex2", Address: "{env.PLEX}"},
		}, ""},
		"placeholders are filled alike": {[]*Server{
			{Name: "plex1", Address: "docker1"}, {Name: "plex2", Address: "{env.PLEX}", host: "docker1:32400"},
		}, `servers "plex1" and "plex2" have the same address`},
		"one placeholder twice": {[]*Server{
			{Name: "plex1", Address: "{env.PLEX}"}, {Name: "plex2", Address: "{env.PLEX}"},
		}, `servers "plex1" and "plex2" have the same address`},
		"one name twice": {[]*Server{
			{Name: "plex1", Address: "docker1"}, {Name: "plex1", Address: "docker2"},
		}, `two servers are named "plex1"`},
		"one address in two spellings": {[]*Server{
			{Name: "plex1", Address: "http://docker1:32400"}, {Name: "plex2", Address: "DOCKER1"},
		}, `servers "plex1" and "plex2" have the same address`},
		"one address for both schemes": {[]*Server{
			{Name: "plex1", Address: "http://docker1:32400"}, {Name: "plex2", Address: "https://docker1:32400"},
		}, `servers "plex1" and "plex2" have the same address`},
		"one IPv6 address in two spellings": {[]*Server{
			{Name: "plex1", Address: "[fd00::a]"}, {Name: "plex2", Address: "[FD00:0::A]:32400"},
		}, `servers "plex1" and "plex2" have the same address`},
		"null":                     {[]*Server{nil}, "a server is null"},
		"no name":                  {[]*Server{{Address: "docker1"}}, "has no name"},
		"name of two words":        {[]*Server{{Name: "plex 1", Address: "docker1"}}, `server name "plex 1"`},
		"name like a matcher":      {[]*Server{{Name: "@plex", Address: "docker1"}}, `server name "@plex"`},
		"name like a path":         {[]*Server{{Name: "/plex", Address: "docker1"}}, `server name "/plex"`},
		"name like a placeholder":  {[]*Server{{Name: "{host}", Address: "docker1"}}, `server name "{host}"`},
		"no address":               {[]*Server{{Name: "plex1"}}, `server "plex1": the address is missing`},
		"weight zero":              {[]*Server{{Name: "plex1", Address: "docker1", Weight: number(0)}}, `weight of server "plex1" is 0`},
		"weight beyond reason":     {[]*Server{{Name: "plex1", Address: "docker1", Weight: number(1e300)}}, `weight of server "plex1" is 1e+300`},
		"transcodes below zero":    {[]*Server{{Name: "plex1", Address: "docker1", MaxTranscodes: -1}}, `max_transcodes of server "plex1" is -1`},
		"identifier not filled in": {[]*Server{{Name: "plex1", Address: "docker1", MachineIdentifier: "{env.ID}"}}, `machine_identifier of server "plex1"`},
		"TLS settings with http": {[]*Server{
			{Name: "plex1", Address: "docker1", TLS: new(reverseproxy.TLSConfig)},
		}, `server "plex1" has TLS settings but an http address`},
		"TLS settings with https": {[]*Server{
			{Name: "plex1", Address: "https://docker1", TLS: new(reverseproxy.TLSConfig)},
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckServers(tc.servers)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("CheckServers() = %v, want %q", err, tc.err)
			}
		})
	}
}
