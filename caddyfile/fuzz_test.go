package caddyfile

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// seeds returns the Caddyfiles of the golden files.
func seeds(f *testing.F) []string {
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		f.Fatalf("no golden files: %v", err)
	}
	var inputs []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(data), separator)
		inputs = append(inputs, input)
	}
	return inputs
}

// blocks returns the bodies of the blocks that word opens.
func blocks(input, word string) (bodies []string) {
	lines := strings.Split(input, "\n")
	for i, line := range lines {
		if first, _, _ := strings.Cut(strings.TrimSpace(line), " "); first != word {
			continue
		}
		indent := line[:len(line)-len(strings.TrimLeft(line, "\t"))]
		end := i + 1
		for end < len(lines) && strings.TrimRight(lines[end], " ") != indent+"}" {
			end++
		}
		bodies = append(bodies, strings.Join(lines[i+1:min(end, len(lines))], "\n"))
	}
	return bodies
}

// sound says that a Caddyfile is refused, or adapts to JSON that Caddy can read
// and that is the same every time.
func sound(t *testing.T, input string) {
	t.Helper()
	first, err := adapt(input)
	again, errAgain := adapt(input)
	if (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
		t.Fatalf("first %v, then %v", err, errAgain)
	}
	if err != nil {
		return
	}
	if !bytes.Equal(first, again) {
		t.Fatalf("adapts to\n%s\nthen to\n%s", first, again)
	}
	if !json.Valid(first) {
		t.Fatalf("not JSON: %s", first)
	}
	var cfg caddy.Config
	if err := caddy.StrictUnmarshalJSON(first, &cfg); err != nil {
		t.Fatalf("Caddy cannot read %s: %v", first, err)
	}
	for name, raw := range cfg.AppsRaw {
		readable(t, name, raw)
	}
	var config any
	if err := json.Unmarshal(first, &config); err != nil {
		t.Fatal(err)
	}
	handlers(t, config)
}

// handlers finds the handlers in a config, which must be readable.
func handlers(t *testing.T, config any) {
	switch config := config.(type) {
	case map[string]any:
		if name, ok := config["handler"].(string); ok {
			delete(config, "handler")
			raw, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			readable(t, "http.handlers."+name, raw)
		}
		for _, v := range config {
			handlers(t, v)
		}
	case []any:
		for _, v := range config {
			handlers(t, v)
		}
	}
}

// readable says that a module can be read from JSON.
func readable(t *testing.T, id string, raw []byte) {
	t.Helper()
	m, err := caddy.GetModule(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.StrictUnmarshalJSON(raw, m.New()); err != nil {
		t.Fatalf("%s cannot be read from %s: %v", id, raw, err)
	}
}

// harmless keeps what is fuzzed away from the file system.
func harmless(input string) bool {
	return len(input) < 1<<12 && !strings.Contains(input, "import") && !strings.Contains(input, "file")
}

func FuzzOption(f *testing.F) {
	for _, input := range seeds(f) {
		for _, body := range blocks(input, "plexlb") {
			f.Add(body)
		}
	}
	f.Fuzz(func(t *testing.T, body string) {
		if !harmless(body) {
			t.Skip()
		}
		sound(t, "{\n\tplexlb {\n"+body+"\n\t}\n}\n:80 {\n\tplexlb\n}\n")
	})
}

func FuzzDirective(f *testing.F) {
	for _, input := range seeds(f) {
		for _, body := range blocks(input, "plexlb") {
			f.Add("plex1", body)
		}
	}
	f.Add("/web/* plex1 plex2", "")
	f.Add("@none", "lb_try_duration 1s")
	f.Add("plex1 plex1 {", "to docker3:1 https://docker3:2")
	f.Fuzz(func(t *testing.T, args, body string) {
		if !harmless(args + body) {
			t.Skip()
		}
		const option = "{\n\tplexlb {\n\t\tserver plex1 https://docker1:32401\n\t\tserver plex2 https://docker2:32402\n\t\tserver plex3 docker3\n\t}\n}\n"
		sound(t, option+":80 {\n\tplexlb "+args+" {\n"+body+"\n\t}\n}\n")
		sound(t, option+":80 {\n\tplexlb_session "+args+"\n\treverse_proxy x {\n\t\tlb_policy least_transcodes {\n"+body+"\n\t\t}\n\t}\n}\n")
	})
}
