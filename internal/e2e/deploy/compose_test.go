package deploy

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose loads files as docker compose does: it interpolates, merges, checks
// them against the schema, and looks whether what they refer to is there.
func compose(t *testing.T, env []string, folder string, files ...string) (*types.Project, error) {
	t.Helper()
	for i, f := range files {
		files[i] = filepath.Join(examples, folder, f)
	}
	options, err := cli.NewProjectOptions(files, cli.WithEnv(env), cli.WithResolvedPaths(true))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(t.Context())
}

var filledIn = []string{"SITE=plex.example.com", "MEDIA=/srv/media"}

func TestCompose(t *testing.T) {
	project, err := compose(t, filledIn, "compose", "compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	balancer, err := project.GetService("balancer")
	if err != nil {
		t.Fatal(err)
	}
	if !balancer.ReadOnly || !slices.Equal(balancer.CapDrop, []string{"ALL"}) || len(balancer.CapAdd) > 0 || balancer.Privileged ||
		!slices.Contains(balancer.SecurityOpt, "no-new-privileges:true") || balancer.User != "" {
		t.Error("the balancer may do more than it needs, or is not the image's user")
	}
	if balancer.Sysctls["net.ipv4.ip_unprivileged_port_start"] != "0" {
		t.Error("the balancer cannot listen on port 80")
	}
	isEnough(t, "compose", time.Duration(*balancer.StopGracePeriod))
	if !slices.ContainsFunc(balancer.Tmpfs, func(s string) bool { return strings.HasPrefix(s, "/run/caddy:uid=65532,") }) {
		t.Error("no place for the admin socket")
	}
	ports := ""
	for _, p := range balancer.Ports {
		ports += p.Published + "/" + p.Protocol + " "
	}
	if ports != "80/tcp 443/tcp 443/udp " {
		t.Errorf("published: %s", ports)
	}
	for _, name := range []string{"SITE"} {
		if !takes(t, "compose", name) || balancer.Environment[name] == nil {
			t.Errorf("%s does not reach the Caddyfile", name)
		}
	}
	for _, v := range balancer.Environment {
		if v != nil && strings.Contains(strings.ToLower(*v), "token") {
			t.Error("a token in the environment")
		}
	}
	if len(balancer.Secrets) != 1 || !strings.Contains(read(t, "compose", "Caddyfile"), "SECRETS:/run/secrets}/"+balancer.Secrets[0].Source+"}") {
		t.Errorf("the secret %v is not the file that the Caddyfile reads", balancer.Secrets)
	}
	dockerfile := filepath.Join(balancer.Build.Context, balancer.Build.Dockerfile)
	if want, _ := filepath.Abs(filepath.Join(examples, "image", "Dockerfile")); dockerfile != want {
		t.Errorf("built from %s, want %s", dockerfile, want)
	}
	mounts := make(map[string]bool)
	for name, address := range servers(t, "compose") {
		s, err := project.GetService(name)
		if err != nil || address != name+":32400" {
			t.Errorf("server %s at %s is no service", name, address)
			continue
		}
		isPMS(t, s.Image)
		if len(s.Ports) > 0 || s.NetworkMode != "" {
			t.Errorf("%s can be reached past the balancer", name)
		}
		if s.HealthCheck == nil || *s.Environment["ADVERTISE_IP"] != "https://plex.example.com:443" {
			t.Errorf("%s has no health check or advertises something else than the site", name)
		}
		shared := false
		for n := range s.Networks {
			_, ok := balancer.Networks[n]
			shared = shared || ok
		}
		if !shared {
			t.Errorf("the balancer does not reach %s", name)
		}
		for _, v := range s.Volumes {
			if v.Target == "/data" {
				if !v.ReadOnly {
					t.Errorf("%s may write to the films", name)
				}
				continue
			}
			if mounts[v.Source] {
				t.Errorf("%s shares %s, of which there has to be one each", name, v.Source)
			}
			mounts[v.Source] = true
		}
	}
	if len(mounts) != 4 {
		t.Errorf("the servers have the volumes %v", mounts)
	}
}

// What is not filled in is said by name.
func TestComposeSaysWhatIsMissing(t *testing.T) {
	for _, missing := range filledIn {
		name, _, _ := strings.Cut(missing, "=")
		env := slices.DeleteFunc(slices.Clone(filledIn), func(s string) bool { return s == missing })
		if _, err := compose(t, env, "compose", "compose.yaml"); err == nil || !strings.Contains(err.Error(), "set "+name+" to") {
			t.Errorf("without %s: %v", name, err)
		}
	}
	env := read(t, "compose", ".env.example")
	for _, name := range []string{"SITE", "MEDIA", "TZ", "PLEX_CLAIM", "PLEX_TOKEN_FILE"} {
		if !strings.Contains(env, "\n"+name+"=") && !strings.HasPrefix(env, name+"=") {
			t.Errorf(".env.example lacks %s", name)
		}
	}
}

func TestComposeWithGPU(t *testing.T) {
	env := append([]string{"GPU1=/dev/dri/renderD128"}, filledIn...)
	project, err := compose(t, env, "compose", "compose.yaml", "gpu-intel-amd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"plex1": "/dev/dri/renderD128", "plex2": "/dev/dri"} {
		s, _ := project.GetService(name)
		if len(s.Devices) != 1 || s.Devices[0].Source != want || s.Devices[0].Target != want || s.Image == "" {
			t.Errorf("%s has devices %v, want %s", name, s.Devices, want)
		}
	}
	project, err = compose(t, append([]string{"GPU2=1"}, filledIn...), "compose", "compose.yaml", "gpu-nvidia.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"plex1": "0", "plex2": "1"} {
		s, _ := project.GetService(name)
		if s.Deploy == nil || s.Deploy.Resources.Reservations == nil || len(s.Deploy.Resources.Reservations.Devices) != 1 {
			t.Errorf("%s has no GPU", name)
			continue
		}
		d := s.Deploy.Resources.Reservations.Devices[0]
		if d.Driver != "nvidia" || !slices.Equal(d.IDs, []string{want}) || !slices.Contains(d.Capabilities, "gpu") {
			t.Errorf("%s has %+v", name, d)
		}
		if v := s.Environment["NVIDIA_DRIVER_CAPABILITIES"]; v == nil || !strings.Contains(*v, "video") || s.Environment["TZ"] == nil {
			t.Errorf("%s cannot encode, or has lost its environment", name)
		}
	}
}

// A server beside the stack is found under the same name as those in it.
func TestComposeNode(t *testing.T) {
	project, err := compose(t, append([]string{"NODE=gpu1"}, filledIn...), "swarm", "node.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := project.GetService("plex")
	if err != nil {
		t.Fatal(err)
	}
	isPMS(t, s.Image)
	n := s.Networks["plex"]
	if n == nil || !slices.Equal(n.Aliases, []string{"tasks.plex"}) || !strings.Contains(read(t, "swarm", "Caddyfile"), "dynamic a {$PLEX:tasks.plex} ") {
		t.Errorf("the balancer does not find %+v", n)
	}
	if network := project.Networks["plex"]; !bool(network.External) || network.Name != "plex" {
		t.Errorf("the network is %+v", network)
	}
	if len(s.Devices) != 1 || len(s.Ports) > 0 {
		t.Errorf("devices %v, ports %v", s.Devices, s.Ports)
	}
}
