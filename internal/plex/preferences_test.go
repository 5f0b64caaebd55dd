package plex

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestPreferences(t *testing.T) {
	const setting = `{"MediaContainer":{"size":1,"Setting":[%]}}`
	for name, tc := range map[string]struct {
		kind, doc string
		want      Preferences
	}{
		"typed as JSON is": {"application/json", `{"id":"RelayEnabled","value":true},{"id":"TranscodeCountLimit","value":4},{"id":"customConnections","value":"x"}`,
			Preferences{PrefRelay: "true", PrefTranscodes: "4", PrefAccessURLs: "x"}},
		"all as text": {"application/json", `{"id":"RelayEnabled","value":"1"},{"id":"TranscodeCountLimit","value":"4"}`,
			Preferences{PrefRelay: "1", PrefTranscodes: "4"}},
		"XML": {"text/xml", `<MediaContainer size="2"><Setting id="RelayEnabled" type="bool" value="1"/><Setting id="allowedNetworks" value=""/></MediaContainer>`,
			Preferences{PrefRelay: "1", PrefWithoutAuth: ""}},
		"secrets are not kept": {"application/json", `{"id":"PlexOnlineToken","value":"s3cret"},{"id":"customCertificateKey","value":"s3cret"}`, Preferences{}},
		"names have one case":  {"application/json", `{"id":"relayenabled","value":true}`, Preferences{}},
		"no value":             {"application/json", `{"id":"RelayEnabled","default":true}`, Preferences{}},
		"null":                 {"application/json", `{"id":"RelayEnabled","value":null}`, Preferences{}},
		"a value that is none": {"application/json", `{"id":"RelayEnabled","value":{"a":1}},{"id":"TranscodeCountLimit","value":[1]}`, Preferences{}},
		"no id":                {"application/json", `{"value":true},7,"x"`, Preferences{}},
		"nothing":              {"application/json", ``, Preferences{}},
	} {
		t.Run(name, func(t *testing.T) {
			doc := tc.doc
			if tc.kind == "application/json" {
				doc = strings.Replace(setting, "%", doc, 1)
			}
			got, err := newServer(t, body(tc.kind, doc)).Preferences(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("read %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPreferenceForms(t *testing.T) {
	p := Preferences{
		"true": "true", "one": " 1 ", "True": "True", "false": "false", "zero": "0", "word": "maybe", "empty": "",
		"four": "4", "four.0": "4.0", "half": "0.5", "less": "-1", "huge": "1e300", "nan": "NaN",
	}
	for name, want := range map[string]struct {
		on, flag bool
		n        int
		number   bool
	}{
		"true":   {on: true, flag: true},
		"True":   {on: true, flag: true},
		"one":    {true, true, 1, true},
		"false":  {flag: true},
		"zero":   {false, true, 0, true},
		"word":   {},
		"empty":  {},
		"none":   {},
		"four":   {n: 4, number: true},
		"four.0": {n: 4, number: true},
		"half":   {},
		"less":   {n: -1, number: true},
		"huge":   {},
		"nan":    {},
	} {
		got := want
		got.on, got.flag = p.Flag(name)
		got.n, got.number = p.Number(name)
		if got != want {
			t.Errorf("%s is read as %+v, want %+v", name, got, want)
		}
	}
	if text, known := p.Text("empty"); text != "" || !known {
		t.Errorf("an empty text is %q, known %v", text, known)
	}
	if _, known := p.Text("none"); known {
		t.Error("a missing text is known")
	}
	few := Preferences{PrefHardware: "1", PrefEncoders: "?", PrefRemuxOnly: "0", PrefTranscodes: "", PrefRelay: "0", PrefPublished: "0", PrefAccessURLs: "", PrefSecure: "x"}
	if got, want := few.Unknown(), []string{PrefEncoders, PrefTranscodes, PrefWithoutAuth, PrefSecure, PrefLAN}; !reflect.DeepEqual(got, want) {
		t.Errorf("not known are %v, want %v", got, want)
	}
}

func TestInNetworks(t *testing.T) {
	for name, tc := range map[string]struct {
		list, addr string
		want       bool
	}{
		"empty":                          {"", "192.168.1.5", false},
		"the address":                    {"192.168.1.5", "192.168.1.5", true},
		"another address":                {"192.168.1.50", "192.168.1.5", false},
		"one of several":                 {"10.0.0.1,192.168.1.5", "192.168.1.5", true},
		"with spaces":                    {" 10.0.0.1 , 192.168.1.5 ", "192.168.1.5", true},
		"network":                        {"192.168.1.0/24", "192.168.1.5", true},
		"network, by one of its members": {"192.168.1.77/24", "192.168.1.5", true},
		"the network beside it":          {"192.168.2.0/24", "192.168.1.5", false},
		"netmask":                        {"192.168.0.0/255.255.0.0", "192.168.1.5", true},
		"narrow netmask":                 {"192.168.1.8/255.255.255.248", "192.168.1.5", false},
		"netmask with a hole":            {"192.168.1.0/255.0.255.0", "192.168.1.5", false},
		"netmask of nothing":             {"0.0.0.0/0.0.0.0", "192.168.1.5", true},
		"everybody":                      {"0.0.0.0/0", "192.168.1.5", true},
		"loopback":                       {"127.0.0.1", "127.0.0.1", true},
		"IPv6":                           {"fd00::/8", "fd00::5", true},
		"IPv6, another":                  {"fd00::/8", "fe80::5", false},
		"IPv6 and IPv4 do not mix":       {"::/0", "192.168.1.5", false},
		"IPv4 written as IPv6":           {"::ffff:192.168.1.5", "192.168.1.5", true},
		"asked in IPv6 for IPv4":         {"192.168.1.5", "::ffff:192.168.1.5", true},
		"with a zone":                    {"fe80::/10", "fe80::5%eth0", true},
		"odd words are passed over":      {"localhost,300.1.1.1,192.168.1.5/33,/,192.168.1.5", "192.168.1.5", true},
		"odd words only":                 {"localhost,192.168.1.5/33,192.168.1.5/-1,192.168.1.5/", "192.168.1.5", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := InNetworks(tc.list, netip.MustParseAddr(tc.addr)); got != tc.want {
				t.Errorf("InNetworks(%q, %s) = %v, want %v", tc.list, tc.addr, got, tc.want)
			}
		})
	}
}

func FuzzInNetworks(f *testing.F) {
	f.Add("10.0.0.1, 192.168.0.0/255.255.0.0;fd00::/8", "192.168.1.5")
	f.Fuzz(func(t *testing.T, list, text string) {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return
		}
		if InNetworks(list, addr) && !InNetworks(list+",", addr) {
			t.Error("a comma more takes it out")
		}
	})
}
