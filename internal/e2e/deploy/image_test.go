package deploy

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// bare stands for every base image.
type bare struct{}

func (bare) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	raw, err := json.Marshal(ocispecs.Image{Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"}})
	return ref, "", raw, err
}

func TestDockerfile(t *testing.T) {
	file := read(t, "image", "Dockerfile")
	source := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", []byte(file))
	source.Definition = new(llb.Definition)
	results, err := dockerfile2llb.DockerfileLint(t.Context(), []byte(file), dockerfile2llb.ConvertOpt{
		MetaResolver: bare{}, SourceMap: source,
		TargetPlatform: &ocispecs.Platform{OS: "linux", Architecture: "amd64"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if results.Error != nil {
		t.Errorf("does not build: %s", results.Error.Message)
	}
	for _, w := range results.Warnings {
		t.Errorf("%s: %s", w.RuleName, w.Detail)
	}

	ast, err := parser.Parse(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err := instructions.Parse(ast.AST, linter.New(&linter.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	last := stages[len(stages)-1]
	env := make(map[string]string)
	user, checked := "", false
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.HealthCheckCommand:
			checked = slices.Equal(c.Health.Test, []string{"CMD", "caddy", "plexlb", "status"})
		case *instructions.RunCommand:
			t.Errorf("the base has no shell for: %s", c.String())
		case *instructions.EnvCommand:
			for _, kv := range c.Env {
				env[kv.Key] = kv.Value
			}
		case *instructions.CopyCommand:
			if strings.HasPrefix(c.SourcePaths[0], "/out/") && c.SourcePaths[0] != "/out/caddy" && c.Chown != "65532:65532" {
				t.Errorf("%s is not the user's", c.DestPath)
			}
		}
	}
	if user != "65532:65532" || !checked {
		t.Errorf("runs as %q, health check %v", user, checked)
	}
	if env["XDG_DATA_HOME"] != "/data" || env["XDG_CONFIG_HOME"] != "/config" || env["CADDY_ADMIN"] != "unix//run/caddy/admin.sock" {
		t.Errorf("environment: %v", env)
	}

	// The compiler is one that can build it.
	mod, err := os.ReadFile(filepath.Join("..", "..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if want := "golang:" + string(version[1]) + "-"; !strings.HasPrefix(stages[0].BaseName, want) {
		t.Errorf("built with %s, want %s", stages[0].BaseName, want)
	}
}

// What the build needs is in its context, and what it does not need is not.
func TestDockerignore(t *testing.T) {
	ignored, err := ignorefile.ReadAll(strings.NewReader(read(t, "image", "Dockerfile.dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	m, err := patternmatcher.New(ignored)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		".git/HEAD": true, "bin/caddy": true, "plexlb/admin_test.go": true, "caddyfile/testdata/x": true, "internal/e2e/deploy/go.mod": true,
		"go.mod": false, "go.sum": false, "xcaddy.sh": false, "imports.go": false, "plexlb/admin.go": false,
		"internal/cluster/ledger.go": false, "internal/plex/client.go": false, "caddyfile/option.go": false, "transcodeselect/policy.go": false,
	} {
		if got, err := m.MatchesOrParentMatches(path); err != nil || got != want {
			t.Errorf("%s is left out: %v, want %v (%v)", path, got, want, err)
		}
	}
}
