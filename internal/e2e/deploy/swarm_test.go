package deploy

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/cli/compose/convert"
	"github.com/docker/cli/cli/compose/loader"
	"github.com/docker/cli/cli/compose/types"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// engine is a Docker engine that knows nothing but the names of secrets and
// configs.
type engine struct {
	client.APIClient
}

func (engine) SecretList(_ context.Context, o client.SecretListOptions) (r client.SecretListResult, _ error) {
	for name := range o.Filters["name"] {
		r.Items = append(r.Items, swarm.Secret{ID: name, Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: name}}})
	}
	return r, nil
}

func (engine) ConfigList(_ context.Context, o client.ConfigListOptions) (r client.ConfigListResult, _ error) {
	for name := range o.Filters["name"] {
		r.Items = append(r.Items, swarm.Config{ID: name, Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name}}})
	}
	return r, nil
}

// The stack as the engine gets it from docker stack deploy, which passes over
// much of what Compose knows.
func TestSwarm(t *testing.T) {
	yaml, err := loader.ParseYAML([]byte(read(t, "swarm", "stack.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	if bad := loader.GetUnsupportedProperties(yaml); len(bad) > 0 {
		t.Errorf("passed over by Swarm: %v", bad)
	}
	if bad := loader.GetDeprecatedProperties(yaml); len(bad) > 0 {
		t.Errorf("deprecated: %v", bad)
	}
	if strings.Contains(read(t, "swarm", "stack.yaml"), "\n    tmpfs:") {
		t.Error("tmpfs: is passed over by Swarm: use a volume of type tmpfs")
	}
	config, err := loader.Load(types.ConfigDetails{
		WorkingDir:  filepath.Join(examples, "swarm"),
		ConfigFiles: []types.ConfigFile{{Filename: "stack.yaml", Config: yaml}},
		Environment: map[string]string{"SITE": "plex.example.com", "MEDIA": "/srv/media"},
	})
	if err != nil {
		t.Fatal(err)
	}
	specs, err := convert.Services(t.Context(), convert.NewNamespace("plexlb"), config, engine{})
	if err != nil {
		t.Fatal(err)
	}
	balancer, plex := specs["balancer"], specs["plex"]
	mounts := make(map[string]mount.Mount)
	for _, m := range balancer.TaskTemplate.ContainerSpec.Mounts {
		mounts[m.Target] = m
	}
	c := balancer.TaskTemplate.ContainerSpec
	if !c.ReadOnly || !slices.Equal(c.CapabilityDrop, []string{"CAP_ALL"}) && !slices.Equal(c.CapabilityDrop, []string{"ALL"}) || c.Sysctls["net.ipv4.ip_unprivileged_port_start"] != "0" {
		t.Errorf("the balancer may do too much or too little: %v %v %v", c.ReadOnly, c.CapabilityDrop, c.Sysctls)
	}
	for target, kind := range map[string]mount.Type{"/data": mount.TypeVolume, "/config": mount.TypeVolume, "/run/caddy": mount.TypeTmpfs} {
		if mounts[target].Type != kind {
			t.Errorf("%s is a %q, want a %q", target, mounts[target].Type, kind)
		}
	}
	isEnough(t, "swarm", *c.StopGracePeriod)
	if len(c.Secrets) != 1 || c.Secrets[0].File.Name != "plex_token" || c.Secrets[0].File.UID != "65532" || c.Secrets[0].File.Mode != 0o400 ||
		!strings.Contains(read(t, "swarm", "Caddyfile"), "SECRETS:/run/secrets}/plex_token}") {
		t.Errorf("the token is %+v", c.Secrets)
	}
	if len(c.Configs) != 1 || c.Configs[0].File.Name != "/etc/caddy/Caddyfile" {
		t.Errorf("the Caddyfile is %+v", c.Configs)
	}
	for _, p := range balancer.EndpointSpec.Ports {
		if p.PublishMode != swarm.PortConfigPublishModeHost || p.PublishedPort != p.TargetPort {
			t.Errorf("port %d hides the clients' addresses", p.PublishedPort)
		}
	}
	if n := len(balancer.EndpointSpec.Ports); n != 3 {
		t.Errorf("%d ports", n)
	}
	if len(plex.EndpointSpec.Ports) > 0 {
		t.Error("servers can be reached past the balancer")
	}
	p := plex.TaskTemplate.ContainerSpec
	isPMS(t, p.Image)
	if plex.Mode.Global == nil || p.Healthcheck == nil || p.Healthcheck.Retries*int(p.Healthcheck.Interval.Seconds()) > 30 {
		t.Error("no server per node, or a hanging one stays in tasks.plex for long")
	}
	for _, m := range p.Mounts {
		if m.Target == "/config" && m.Type != mount.TypeVolume {
			t.Errorf("the database is on a %s, which nodes may share", m.Type)
		}
		if m.Target == "/data" && !m.ReadOnly {
			t.Error("servers may write to the films")
		}
	}
	// What tasks.plex is: the service's alias in a network that both are in.
	names := plex.TaskTemplate.Networks[0]
	if len(plex.TaskTemplate.Networks) != 1 || names.Target != "plex" || balancer.TaskTemplate.Networks[0].Target != "plex" ||
		!slices.Contains(names.Aliases, "plex") || !strings.Contains(read(t, "swarm", "Caddyfile"), "{$PLEX:tasks.plex}") {
		t.Errorf("tasks.plex is not known: %+v", plex.TaskTemplate.Networks)
	}
	if !config.Networks["plex"].Attachable {
		t.Error("node.yaml cannot join")
	}
}
