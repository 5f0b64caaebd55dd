package caddyfile

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var update = flag.Bool("update", false, "rewrite what the golden files expect")

// separator parts the Caddyfile of a golden file from what becomes of it: JSON,
// or the text of the error.
const separator = "----------\n"

func TestMain(m *testing.M) {
	os.Unsetenv("PLEXLB_UNSET")
	os.Setenv("PLEXLB_BLANK", " ")
	os.Setenv("PLEXLB_ADDRESS", "docker1:32401")
	os.Setenv("PLEXLB_HOST", "docker2")
	os.Setenv("PLEXLB_NAME", "house.example.com")
	os.Setenv("PLEXLB_PORT", "32403")
	caddy.RegisterModule(logged)
	if err := validate([]byte("{}")); err != nil { // from here on all is logged there
		panic(err)
	}
	os.Exit(m.Run())
}

// Every golden file adapts to what it says, formatted or not, and what adapts
// is a configuration that Caddy takes.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(data), separator)
			got := outcome(input)
			if *update {
				if err := os.WriteFile(file, []byte(input+separator+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("adapts to\n%s\nwant\n%s", got, want)
			}

			if !strings.HasPrefix(got, "{") {
				if !strings.Contains(got, "Caddyfile:") {
					t.Errorf("error names no line: %s", got)
				}
				return
			}
			if formatted := string(caddyfile.Format([]byte(input))); outcome(formatted) != got {
				t.Errorf("caddy fmt changes what it means: %s", outcome(formatted))
			}
			if err := validate([]byte(got)); err != nil {
				t.Errorf("Caddy refuses it: %v", err)
			}
		})
	}
}

// outcome is the JSON that a Caddyfile adapts to, or the error.
func outcome(input string) string {
	config, err := adapt(input)
	if err != nil {
		// Caddy names imported files by their whole path.
		here, _ := os.Getwd()
		return strings.ReplaceAll(err.Error(), here+string(filepath.Separator), "") + "\n"
	}
	var out bytes.Buffer
	if err := json.Indent(&out, config, "", "\t"); err != nil {
		return err.Error() + "\n"
	}
	return out.String() + "\n"
}

func adapt(input string) ([]byte, error) { return adaptFile("Caddyfile", input) }

func adaptFile(name, input string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": name})
	return config, err
}

// validate has Caddy load and provision a config, as caddy validate does.
func validate(config []byte) error {
	cfg := caddy.Config{Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{
			WriterRaw: json.RawMessage(`{"output": "plexlb_test"}`),
			Level:     "WARN",
		}},
	}}}
	if err := caddy.StrictUnmarshalJSON(config, &cfg); err != nil {
		return err
	}
	return caddy.Validate(&cfg)
}

// logged is a log output that keeps what Caddy writes.
var logged = new(logOutput)

type logOutput struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (*logOutput) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.logging.writers.plexlb_test",
		New: func() caddy.Module { return logged },
	}
}

func (o *logOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// during returns what is logged while f runs.
func (o *logOutput) during(f func()) string {
	o.mu.Lock()
	o.text.Reset()
	o.mu.Unlock()
	f()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *logOutput) String() string                      { return "plexlb_test" }
func (o *logOutput) WriterKey() string                   { return "plexlb_test" }
func (o *logOutput) OpenWriter() (io.WriteCloser, error) { return o, nil }
func (o *logOutput) Close() error                        { return nil }

// Interface guard
var _ caddy.WriterOpener = (*logOutput)(nil)
