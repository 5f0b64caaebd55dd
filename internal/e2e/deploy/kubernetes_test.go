package deploy

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// manifests are what kubectl apply --kustomize would send.
type manifests struct {
	deployment *apps.Deployment
	stateful   *apps.StatefulSet
	services   map[string]*core.Service
	claims     map[string]*core.PersistentVolumeClaim
	configs    map[string]*core.ConfigMap
	budgets    map[string]*policy.PodDisruptionBudget
	policies   []*networking.NetworkPolicy
}

// kustomize builds the manifests with some components, and decodes them as
// strictly as an API server that is asked to: no unknown or repeated field.
func kustomize(t *testing.T, components ...string) *manifests {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "kubernetes")
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(examples, "kubernetes"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "kustomization.yaml")
	text := read(t, "kubernetes", "kustomization.yaml")
	for _, c := range components {
		// As somebody does who takes the marks of the comment away.
		text = strings.NewReplacer("# components:", "components:", "#   - "+c+"\n", "  - "+c+"\n").Replace(text)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{
		services: make(map[string]*core.Service), claims: make(map[string]*core.PersistentVolumeClaim),
		configs: make(map[string]*core.ConfigMap), budgets: make(map[string]*policy.PodDisruptionBudget),
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, r := range built.Resources() {
		yaml, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := decoder.Decode(yaml, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", r.GetName(), err)
		}
		if _, ok := o.(*core.Namespace); !ok && r.GetNamespace() != "plexlb" {
			t.Errorf("%s is in namespace %q", r.GetName(), r.GetNamespace())
		}
		m.take(t, o)
	}
	return m
}

func (m *manifests) take(t *testing.T, o runtime.Object) {
	t.Helper()
	switch o := o.(type) {
	case *core.Namespace:
	case *apps.Deployment:
		m.deployment = o
	case *apps.StatefulSet:
		m.stateful = o
	case *core.Service:
		m.services[o.Name] = o
	case *core.PersistentVolumeClaim:
		m.claims[o.Name] = o
	case *core.ConfigMap:
		m.configs[o.Name] = o
	case *policy.PodDisruptionBudget:
		m.budgets[o.Name] = o
	case *networking.NetworkPolicy:
		m.policies = append(m.policies, o)
	default:
		t.Errorf("nothing checks a %T", o)
	}
}

// port finds a port of a pod by the name or number that something uses for it.
func port(pod core.PodSpec, p intstr.IntOrString, protocol core.Protocol) bool {
	if protocol == "" {
		protocol = core.ProtocolTCP
	}
	for _, c := range pod.Containers {
		for _, have := range c.Ports {
			of := have.Protocol
			if of == "" {
				of = core.ProtocolTCP
			}
			if of == protocol && (p.StrVal != "" && p.StrVal == have.Name || p.StrVal == "" && p.IntVal == have.ContainerPort) {
				return true
			}
		}
	}
	return false
}

func selects(t *testing.T, s *meta.LabelSelector, of map[string]string) bool {
	t.Helper()
	selector, err := meta.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return !selector.Empty() && selector.Matches(labels.Set(of))
}

func TestKubernetes(t *testing.T) {
	m := kustomize(t)
	pods := map[string]core.PodTemplateSpec{"balancer": m.deployment.Spec.Template, "plex": m.stateful.Spec.Template}
	replicas := map[string]int{"balancer": int(*m.deployment.Spec.Replicas), "plex": int(*m.stateful.Spec.Replicas)}
	if replicas["balancer"] < 2 || replicas["plex"] < 2 {
		t.Errorf("replicas: %v", replicas)
	}
	if !selects(t, m.deployment.Spec.Selector, pods["balancer"].Labels) || !selects(t, m.stateful.Spec.Selector, pods["plex"].Labels) {
		t.Error("a selector does not select its own pods")
	}
	if got := slices.Sorted(maps.Keys(m.services)); !slices.Equal(got, []string{"balancer", "plex"}) {
		t.Errorf("services: %v", got)
	}
	for name, pod := range pods {
		if s := m.services[name]; !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			t.Errorf("service %s selects nothing", name)
		} else {
			for _, p := range s.Spec.Ports {
				if !port(pod.Spec, p.TargetPort, p.Protocol) {
					t.Errorf("service %s: no port %s in the pod", name, p.TargetPort.String())
				}
			}
		}
		b := m.budgets[name]
		if b == nil || !selects(t, b.Spec.Selector, pod.Labels) {
			t.Errorf("%s has no PodDisruptionBudget", name)
			continue
		}
		if least := b.Spec.MinAvailable; least != nil && least.IntValue() >= replicas[name] || b.Spec.MaxUnavailable != nil && b.Spec.MaxUnavailable.IntValue() < 1 {
			t.Errorf("%s: no node can be drained", name)
		}
		for _, s := range pod.Spec.TopologySpreadConstraints {
			if !selects(t, s.LabelSelector, pod.Labels) {
				t.Errorf("%s is spread by other pods", name)
			}
		}
		m.volumes(t, name, pod.Spec)
		probes(t, name, pod.Spec)
	}

	pod := pods["balancer"].Spec
	c := pod.Containers[0]
	isEnough(t, "kubernetes", time.Duration(*pod.TerminationGracePeriodSeconds)*time.Second)
	if s := pod.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser != 65532 || *s.FSGroup != 65532 || len(s.Sysctls) != 1 || s.Sysctls[0].Name != "net.ipv4.ip_unprivileged_port_start" || s.Sysctls[0].Value != "0" {
		t.Errorf("the balancer's pod runs as %+v", s)
	}
	if s := c.SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
		t.Errorf("the balancer may do more than it needs: %+v", s)
	}
	if !slices.ContainsFunc(c.Env, func(e core.EnvVar) bool { return e.Name == "SITE" && takes(t, "kubernetes", e.Name) }) {
		t.Error("SITE does not reach the Caddyfile")
	}
	certificates := m.claims["certificates"]
	if !slices.Equal(certificates.Spec.AccessModes, []core.PersistentVolumeAccessMode{core.ReadWriteMany}) {
		t.Error("two balancers cannot share the certificates")
	}
	if s := m.services["balancer"].Spec; s.ExternalTrafficPolicy != core.ServiceExternalTrafficPolicyLocal || s.SessionAffinity != core.ServiceAffinityClientIP {
		t.Error("the balancer does not see the clients' addresses")
	}

	// The names that the Caddyfile has are those that the headless service
	// gives.
	if m.services["plex"].Spec.ClusterIP != core.ClusterIPNone || m.stateful.Spec.ServiceName != "plex" {
		t.Error("the pods have no names")
	}
	found := servers(t, "kubernetes")
	for i := range replicas["plex"] {
		name := fmt.Sprintf("%s-%d", m.stateful.Name, i)
		want := fmt.Sprintf("%s.%s.%s.svc.cluster.local:32400", name, m.stateful.Spec.ServiceName, m.stateful.Namespace)
		if found[name] != want {
			t.Errorf("server %s is at %q, want %q", name, found[name], want)
		}
	}
	if len(found) != replicas["plex"] {
		t.Errorf("%d servers, %d pods", len(found), replicas["plex"])
	}
	isPMS(t, pods["plex"].Spec.Containers[0].Image)
	if modes := m.stateful.Spec.VolumeClaimTemplates[0].Spec.AccessModes; !slices.Equal(modes, []core.PersistentVolumeAccessMode{core.ReadWriteOnce}) {
		t.Errorf("databases with access modes %v", modes)
	}

	for _, p := range m.policies {
		if !selects(t, &p.Spec.PodSelector, pods["plex"].Labels) || len(p.Spec.Ingress) != 1 || len(p.Spec.Ingress[0].From) != 1 ||
			!selects(t, p.Spec.Ingress[0].From[0].PodSelector, pods["balancer"].Labels) || !port(pods["plex"].Spec, *p.Spec.Ingress[0].Ports[0].Port, "") {
			t.Error("the policy does not let the balancer in alone")
		}
	}
	if len(m.policies) != 1 {
		t.Errorf("%d policies", len(m.policies))
	}
}

// volumes tells whether all that is mounted is there.
func (m *manifests) volumes(t *testing.T, name string, pod core.PodSpec) {
	t.Helper()
	there := make(map[string]core.Volume)
	for _, v := range pod.Volumes {
		there[v.Name] = v
		if c := v.PersistentVolumeClaim; c != nil && m.claims[c.ClaimName] == nil {
			t.Errorf("%s: there is no claim %s", name, c.ClaimName)
		}
		if c := v.ConfigMap; c != nil && (m.configs[c.Name] == nil || m.configs[c.Name].Data["Caddyfile"] == "") {
			t.Errorf("%s: there is no Caddyfile in %s", name, c.Name)
		}
	}
	if name == "plex" {
		for _, v := range m.stateful.Spec.VolumeClaimTemplates {
			there[v.Name] = core.Volume{}
		}
	}
	for _, mount := range pod.Containers[0].VolumeMounts {
		if _, ok := there[mount.Name]; !ok {
			t.Errorf("%s: there is no volume %s", name, mount.Name)
		}
		delete(there, mount.Name)
		if secret := mount.MountPath == "/run/secrets/plexlb"; secret && !strings.Contains(read(t, "kubernetes", "Caddyfile"), "SECRETS:"+mount.MountPath+"}/") {
			t.Errorf("the Caddyfile reads no %s", mount.MountPath)
		}
		if mount.MountPath == "/data" && name == "plex" && !mount.ReadOnly {
			t.Error("servers may write to the films")
		}
	}
	if len(there) > 0 {
		t.Errorf("%s: not mounted: %v", name, slices.Sorted(maps.Keys(there)))
	}
}

var handled = regexp.MustCompile(`(?m)^\thandle (/\w+) \{$`)

// probes tells whether the probes ask for what is there, at a port that is
// there.
func probes(t *testing.T, name string, pod core.PodSpec) {
	t.Helper()
	paths := []string{"/identity"}
	if name == "balancer" {
		paths = nil
		for _, m := range handled.FindAllStringSubmatch(read(t, "kubernetes", "Caddyfile"), -1) {
			paths = append(paths, m[1])
		}
		if !strings.Contains(read(t, "kubernetes", "Caddyfile"), "http://:{$PROBES:8081} {") || !port(pod, intstr.FromInt32(8081), "") {
			t.Error("the probes' port is not that of the Caddyfile")
		}
	}
	c := pod.Containers[0]
	for kind, p := range map[string]*core.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
		if p == nil || p.HTTPGet == nil || !port(pod, p.HTTPGet.Port, "") || !slices.Contains(paths, p.HTTPGet.Path) {
			t.Errorf("%s: the %s probe asks nobody", name, kind)
		}
	}
}

func TestKubernetesWithGPU(t *testing.T) {
	for component, resource := range map[string]core.ResourceName{
		"gpu-intel": "gpu.intel.com/i915", "gpu-amd": "amd.com/gpu", "gpu-nvidia": "nvidia.com/gpu",
	} {
		t.Run(component, func(t *testing.T) {
			pod := kustomize(t, component).stateful.Spec.Template.Spec
			c := pod.Containers[0]
			if n := c.Resources.Limits[resource]; n.Value() != 1 || c.Image == "" || len(pod.Containers) != 1 || c.Resources.Requests.Memory().IsZero() {
				t.Errorf("%s: %v", resource, c.Resources)
			}
			nvidia := component == "gpu-nvidia"
			if runtime := pod.RuntimeClassName; (runtime != nil) != nvidia {
				t.Errorf("runtime class %v", runtime)
			}
			if able := slices.ContainsFunc(c.Env, func(e core.EnvVar) bool {
				return e.Name == "NVIDIA_DRIVER_CAPABILITIES" && strings.Contains(e.Value, "video")
			}); able != nvidia || len(c.Env) < 3 {
				t.Errorf("environment %v", c.Env)
			}
		})
	}
}
