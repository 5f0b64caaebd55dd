package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// examples is the folder with the deployments.
var examples = filepath.Join("..", "..", "..", "examples", "deploy")

func read(t *testing.T, path ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{examples}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

var option = regexp.MustCompile(`(?m)^\t(shutdown_delay|grace_period) (\S+)$`)

// ending returns how long the Caddy of a deployment may take to end.
func ending(t *testing.T, deployment string) (d time.Duration) {
	t.Helper()
	for _, m := range option.FindAllStringSubmatch(read(t, deployment, "Caddyfile"), -1) {
		one, err := time.ParseDuration(m[2])
		if err != nil {
			t.Fatal(err)
		}
		d += one
	}
	if d == 0 {
		t.Fatalf("%s: no grace_period", deployment)
	}
	return d
}

// isEnough tells whether a deployment gives Caddy the time that it takes to
// end, and five seconds more.
func isEnough(t *testing.T, deployment string, given time.Duration) {
	t.Helper()
	if need := ending(t, deployment) + 5*time.Second; given < need {
		t.Errorf("%s gives Caddy %v to end, which takes up to %v", deployment, given, need)
	}
}

var server = regexp.MustCompile(`(?m)^\t\tserver (\S+) \{\$\w+:(\S+)\}$`)

// servers returns the names and addresses of the servers in a Caddyfile.
func servers(t *testing.T, deployment string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, m := range server.FindAllStringSubmatch(read(t, deployment, "Caddyfile"), -1) {
		found[m[1]] = m[2]
	}
	return found
}

var variable = regexp.MustCompile(`\{\$(\w+)[:}]`)

// takes tells whether a Caddyfile reads an environment variable.
func takes(t *testing.T, deployment, name string) bool {
	t.Helper()
	for _, m := range variable.FindAllStringSubmatch(read(t, deployment, "Caddyfile"), -1) {
		if m[1] == name {
			return true
		}
	}
	return false
}

// tool returns the path of a program that a check needs. Where all has to be
// checked its absence is a failure.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("%s is not installed", name)
	}
	if err != nil {
		t.Fatalf("install %s: %v", name, err)
	}
	return path
}

// pms is the image of Plex Media Server: a fixed version, the same everywhere.
func isPMS(t *testing.T, image string) {
	t.Helper()
	repository, tag, _ := strings.Cut(image, ":")
	if repository != "plexinc/pms-docker" || !strings.Contains(read(t, "compose", "compose.yaml"), "plexinc/pms-docker:"+tag+"\n") || tag == "latest" {
		t.Errorf("image %q: not a fixed version of Plex Media Server, or not the one of compose.yaml", image)
	}
}
