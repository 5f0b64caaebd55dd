package acme

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// With a token that DuckDNS does not take there is no certificate, and the
// reason is in the log. The token is not.
func TestRefusedToken(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct{ token, reason string }{
		"another account's": {"00000000-1111-2222-3333-444444444444", "expected (OK) but got (KO)"},
		"half a token":      {"9b2f6a1e-7c3d-4e58", "must be a 36 characters long UUID"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "Caddyfile", time.Hour)
			h.in.Move("203.0.113.7")
			h.set("DUCKDNS_TOKEN", tc.token)
			h.start()
			for _, failed := range []string{"could not get certificate from issuer", "failed setting DNS record(s)"} {
				said := func() bool { return strings.Contains(line(h.log.String(), failed), tc.reason) }
				if !eventually(20*time.Second, said) {
					t.Errorf("not in the log: %s, because %s", failed, tc.reason)
				}
			}
			if _, err := h.greet(name("plex"), h.in.Roots); err == nil {
				t.Error("there is a certificate")
			}
			if ipv4 := h.in.DuckDNS.Records(domain).IPv4; ipv4.String() != "127.0.0.1" {
				t.Errorf("the address has become %v", ipv4)
			}
		})
	}
}

// An example that lacks a part of its environment says which. With all of it,
// it is valid.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		example string
		lacks   []string
	}{
		{"Caddyfile", []string{"DUCKDNS_DOMAIN", "DUCKDNS_TOKEN"}},
		{"ports.caddyfile", []string{"DUCKDNS_DOMAIN", "DUCKDNS_TOKEN"}},
		{"lan.caddyfile", nil},
	} {
		validate := func(env ...string) (string, error) {
			c := exec.Command(binary, "validate", "--adapter", "caddyfile", "--config", filepath.Join("..", "..", "..", "examples", "duckdns", tc.example))
			folder := t.TempDir()
			c.Env = append([]string{"HOME=" + folder, "XDG_DATA_HOME=" + folder, "XDG_CONFIG_HOME=" + folder}, env...)
			out, err := c.CombinedOutput()
			return string(out), err
		}
		all := []string{"DUCKDNS_DOMAIN=" + domain, "DUCKDNS_TOKEN=" + duckdnsToken}
		if out, err := validate(all...); err != nil {
			t.Errorf("%s is refused: %v\n%s", tc.example, err, out)
		}
		for i, missing := range tc.lacks {
			for what, env := range map[string][]string{
				"missing": slices.Delete(slices.Clone(all), i, i+1),
				"empty":   append(slices.Delete(slices.Clone(all), i, i+1), missing+"="),
			} {
				if out, err := validate(env...); err == nil || !strings.Contains(out, "set "+missing+" in the environment") {
					t.Errorf("%s with %s %s: %v\n%s", tc.example, missing, what, err, out)
				}
			}
		}
		if len(tc.lacks) == 0 {
			continue
		}
		if out, err := validate("DUCKDNS_DOMAIN="+parent, all[1]); err == nil || !strings.Contains(out, "set DUCKDNS_DOMAIN in the environment to one part of a name") {
			t.Errorf("%s with the whole name: %v\n%s", tc.example, err, out)
		}
	}
}
