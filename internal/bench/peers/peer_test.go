package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/plexlb/caddy-plexlb"
)

// proxyOf adapts a peer's Caddyfile and returns its reverse_proxy.
func proxyOf(t *testing.T, s setting) map[string]any {
	t.Helper()
	dir := t.TempDir()
	if _, err := s(dir, "127.0.0.1:20001", "127.0.0.1:20002", []string{"127.0.0.1:20003", "127.0.0.1:20004"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	var config any
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	proxy := find(config)
	if proxy == nil {
		t.Fatalf("no reverse_proxy in %s", adapted)
	}
	return proxy
}

// find looks for a reverse_proxy anywhere in a config.
func find(v any) map[string]any {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if p := find(e); p != nil {
				return p
			}
		}
	case map[string]any:
		if v["handler"] == "reverse_proxy" {
			return v
		}
		for _, e := range v {
			if p := find(e); p != nil {
				return p
			}
		}
	}
	return nil
}

// The table says so: what differs in cost is plexlb, not its options.
func TestStockCaddyHasTheOptionsOfTheDirective(t *testing.T) {
	mine := proxyOf(t, ours("replicated plex1"))
	for _, policy := range []string{"least_conn", "uri_hash", "query session"} {
		theirs := proxyOf(t, stock(policy))
		for _, p := range []map[string]any{mine, theirs} {
			lb := p["load_balancing"].(map[string]any)
			delete(lb, "selection_policy") // which is what is compared
			delete(lb, "retry_match")      // ours also asks what a request is to Plex
		}
		if !reflect.DeepEqual(mine, theirs) {
			t.Errorf("%s:\n%v\nthe directive:\n%v", policy, theirs, mine)
		}
	}
}
