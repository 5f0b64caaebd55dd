package caddyfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// A token whose environment variable is not set costs the readings of the
// servers, not the balancing.
func TestUnsetTokenIsOnlyAWarning(t *testing.T) {
	for name, config := range map[string]string{
		"of all servers, left out by the adapter":  "{\n plexlb {\n token {$PLEXLB_UNSET}\n server plex1 docker1:32401\n }\n}\n:80 {\n plexlb\n}\n",
		"of all servers, quoted":                   "{\n plexlb {\n token \"{$PLEXLB_UNSET}\"\n server plex1 docker1:32401\n }\n}\n:80 {\n plexlb\n}\n",
		"of all servers, filled when Caddy starts": "{\n plexlb {\n token {env.PLEXLB_UNSET}\n server plex1 docker1:32401\n }\n}\n:80 {\n plexlb\n}\n",
		"of one server, left out by the adapter":   "{\n plexlb {\n server plex1 docker1:32401 {\n token {$PLEXLB_UNSET}\n weight 2\n }\n }\n}\n:80 {\n plexlb\n}\n",
		"of one server, filled when Caddy starts":  "{\n plexlb {\n server plex1 docker1:32401 {\n token {env.PLEXLB_UNSET}\n }\n }\n}\n:80 {\n plexlb\n}\n",
		"of the policy, left out by the adapter":   ":80 {\n reverse_proxy docker1:32401 {\n lb_policy least_transcodes {\n token {$PLEXLB_UNSET}\n }\n }\n}\n",
		"of the policy, filled when Caddy starts":  ":80 {\n reverse_proxy docker1:32401 {\n lb_policy least_transcodes {\n token {env.PLEXLB_UNSET}\n }\n }\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			log := logged.during(func() {
				json, err := adapt(config)
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				if err := validate(json); err != nil {
					t.Fatalf("refused: %v", err)
				}
			})
			if !strings.Contains(log, "is empty; is its environment variable set?") {
				t.Errorf("no warning in the log:\n%s", log)
			}
		})
	}
}

// No token that is set comes out in the log.
func TestTokensStayOutOfTheLog(t *testing.T) {
	t.Setenv("PLEXLB_TOKEN", "sesame")
	log := logged.during(func() {
		for _, token := range []string{"sesame", "{$PLEXLB_TOKEN}", "{env.PLEXLB_TOKEN}"} {
			json, err := adapt("{\n plexlb {\n token " + token + "\n server plex1 docker1:32401 {\n token " + token + "\n }\n }\n}\n:80 {\n plexlb\n}\n")
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(json); err != nil {
				t.Fatal(err)
			}
		}
	})
	if strings.Contains(log, "sesame") {
		t.Errorf("logged: %s", log)
	}
}

// What a Caddyfile is refused for, JSON is refused for.
func TestWrongJSONIsRefused(t *testing.T) {
	const fine = `{"name": "plex1", "address": "docker1:32401"}`
	for app, want := range map[string]string{
		`{"servers": [` + fine + `, {"name": "plex1", "address": "docker2"}]}`:                             `two servers are named "plex1"`,
		`{"servers": [` + fine + `, {"name": "plex2", "address": "http://Docker1:32401"}]}`:                `servers "plex1" and "plex2" have the same address`,
		`{"servers": [` + fine + `, {"name": "plex2", "address": "{env.PLEXLB_ADDRESS}"}]}`:                `servers "plex1" and "plex2" have the same address`,
		`{"servers": [` + fine + `, null]}`:                                                                `a server is null`,
		`{"servers": [{"address": "docker1"}]}`:                                                            `a server has no name`,
		`{"servers": [{"name": "plex 1", "address": "docker1"}]}`:                                          `server name "plex 1": use letters`,
		`{"servers": [{"name": "plex1"}]}`:                                                                 `server "plex1": the address is missing`,
		`{"servers": [{"name": "plex1", "address": "docker1", "weight": 0}]}`:                              `weight of server "plex1" is 0: use a number greater than 0`,
		`{"servers": [{"name": "plex1", "address": "docker1", "weight": -2}]}`:                             `weight of server "plex1" is -2: use a number greater than 0`,
		`{"servers": [{"name": "plex1", "address": "docker1", "weight": "four"}]}`:                         `cannot unmarshal`,
		`{"servers": [{"name": "plex1", "address": "docker1", "max_transcodes": -1}]}`:                     `max_transcodes of server "plex1" is -1: use 1 or more`,
		`{"servers": [{"name": "plex1", "address": "docker1", "machine_identifier": "{env.X}"}]}`:          `machine_identifier of server "plex1"`,
		`{"servers": [{"name": "plex1", "address": "docker1/web"}]}`:                                       `the address has a path or query`,
		`{"servers": [{"name": "plex1", "address": "http://me:secret@docker1"}]}`:                          `the address holds credentials`,
		`{"servers": [{"name": "plex1", "address": "docker1:99999"}]}`:                                     `has no usable port`,
		`{"servers": [{"name": "plex1", "address": "h2c://docker1"}]}`:                                     `has the scheme "h2c"`,
		`{"servers": [{"name": "plex1", "address": "fd00::1:32400"}]}`:                                     `with an IPv6 address in brackets`,
		`{"servers": [{"name": "plex1", "address": "{env.PLEXLB_UNSET}"}]}`:                                `is its environment variable set`,
		`{"servers": [{"name": "plex1", "address": "docker1", "tls": {}}]}`:                                `has TLS settings but an http address`,
		`{"servers": [{"name": "plex1", "address": "https://docker1", "tls": {"ca": {"provider": "x"}}}]}`: `server "plex1": TLS settings`,
		`{"servers": [` + fine + `], "mode": "mirrored"}`:                                                  `unknown mode "mirrored"`,
		`{"servers": [` + fine + `], "mode": "replicated"}`:                                                `mode replicated needs a primary`,
		`{"servers": [` + fine + `], "mode": "replicated", "primary": "plex3"}`:                            `primary "plex3" is not a server: use one of plex1`,
		`{"servers": [` + fine + `], "primary": "plex1"}`:                                                  `only mode replicated has a primary`,
		`{"servers": [` + fine + `], "overflow": "drop"}`:                                                  `unknown overflow "drop"`,
		`{"poll_interval": "-1s"}`:                                                                         `poll_interval must be greater than 0`,
		`{"poll_timeout": "-1s"}`:                                                                          `poll_timeout must be greater than 0`,
		`{"idle": "-1s"}`:                                                                                  `idle must be greater than 0`,
		`{"cost": {"gpu": -1}}`:                                                                            `cost gpu is -1`,
		`{"wieght": 1}`:                                                                                    `unknown field "wieght"`,
	} {
		refuses(t, `{"apps": {"plexlb": `+app+`}}`, want)
	}
	for handler, want := range map[string]string{
		`{"handler": "plexlb", "servers": ["plex3"]}`: `unknown server "plex3": use one of plex1`,
		`{"handler": "reverse_proxy", "load_balancing": {"selection_policy": {"policy": "least_transcodes", "weight": 1}}}`: `unknown field "weight"`,
	} {
		refuses(t, route(fmt.Sprintf(`{"handle": [%s]}`, handler), fine), want)
	}
	for matcher, want := range map[string]string{
		`["start", "watch"]`: `unknown kind "watch"`,
		`[]`:                 `needs a kind of request`,
	} {
		refuses(t, route(fmt.Sprintf(`{"match": [{"plex": %s}]}`, matcher), fine), want)
	}
}

// route is a config with one route.
func route(route, server string) string {
	return fmt.Sprintf(`{"apps": {"plexlb": {"servers": [%s]}, "http": {"servers": {"x": {"listen": [":80"], "routes": [%s]}}}}}`, server, route)
}

func refuses(t *testing.T, config, want string) {
	t.Helper()
	if err := validate([]byte(config)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s\nis refused with %v\nwant %s", config, err, want)
	}
}

// Every Caddyfile below examples is one that Caddy takes, unless it needs a
// plug-in besides this one.
func TestExamples(t *testing.T) {
	t.Cleanup(func() { validate([]byte("{}")) }) // examples have their own logs
	t.Setenv("ADMIN_HASH", "$2a$04$anything")
	t.Setenv("DUCKDNS_DOMAIN", "example")
	t.Setenv("DUCKDNS_TOKEN", "00000000-0000-0000-0000-000000000000")
	err := filepath.WalkDir("../examples", func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(strings.ToLower(e.Name()), "caddyfile") {
			return err
		}
		t.Run(path, func(t *testing.T) {
			input, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			json, err := adaptFile(path, string(input))
			if err == nil {
				err = validate(json)
			}
			if err != nil && foreign.MatchString(err.Error()) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(caddyfile.Format(input), input) {
				t.Error("is not formatted: run caddy fmt")
			}
		})
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// foreign is an error about what only another plug-in knows.
var foreign = regexp.MustCompile(`dns\.providers\.|dynamic_dns|events\.handlers\.exec`)
