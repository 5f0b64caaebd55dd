package deploy

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// host is a folder that looks like the file system of a host on which the
// units are installed as the READMEs say.
func host(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	put := func(content, path string, mode os.FileMode) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	units := "/etc/systemd/system/"
	put(read(t, "systemd", "caddy.service"), units+"caddy.service", 0o644)
	put(read(t, "keepalived", "caddy.service.d", "keepalived.conf"), units+"caddy.service.d/keepalived.conf", 0o644)
	put(read(t, "..", "duckdns", "caddy.service.d", "duckdns.conf"), units+"caddy.service.d/duckdns.conf", 0o644)
	put(read(t, "systemd", "node", "plexlb-node.service"), units+"plexlb-node.service", 0o644)
	put(read(t, "systemd", "node", "plexmediaserver.service.d", "plexlb.conf"), units+"plexmediaserver.service.d/plexlb.conf", 0o644)
	// Of the package of PMS this much matters here.
	put("[Unit]\nAfter=network.target network-online.target\n[Service]\nType=simple\nUser=plex\nExecStart=/usr/bin/pms\n", "/lib/systemd/system/plexmediaserver.service", 0o644)
	for _, target := range []string{"sysinit", "basic", "network", "network-online", "multi-user", "shutdown", "sockets", "timers", "paths", "slices"} {
		put("[Unit]\nDescription="+target+"\n", "/lib/systemd/system/"+target+".target", 0o644)
	}
	for _, slice := range []string{"system.slice", "-.slice"} {
		put("[Unit]\nDescription=slice\n", "/lib/systemd/system/"+slice, 0o644)
	}
	for _, program := range []string{"/usr/local/bin/caddy", "/usr/bin/pms", "/usr/local/libexec/plexlb-node"} {
		put("#!/bin/sh\n", program, 0o755)
	}
	return root
}

func TestUnits(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	root := host(t)
	for _, unit := range []string{"caddy.service", "plexlb-node.service", "plexmediaserver.service"} {
		out, err := exec.Command(analyze, "--root="+root, "verify", "--man=no", "--recursive-errors=no", unit).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
	// The lower the better; 10 is a unit that does nothing for it.
	for unit, most := range map[string]string{"caddy.service": "18", "plexlb-node.service": "20"} {
		out, err := exec.Command(analyze, "--root="+root, "security", "--offline=true", "--threshold="+most, "--no-pager", unit).CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
		t.Log(lines[len(lines)-1])
	}
}

// setting returns the last value of a setting of a unit.
func setting(t *testing.T, unit, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(unit, -1)
	if len(m) == 0 {
		t.Fatalf("no %s", name)
	}
	return m[len(m)-1][1]
}

// What unit and Caddyfile say of the same thing.
func TestUnitsFitTheCaddyfiles(t *testing.T) {
	unit := read(t, "systemd", "caddy.service")
	for deployment, text := range map[string]string{"systemd": unit, "keepalived": unit + read(t, "keepalived", "caddy.service.d", "keepalived.conf")} {
		stop, err := time.ParseDuration(setting(t, text, "TimeoutStopSec"))
		if err != nil {
			t.Fatal(err)
		}
		isEnough(t, deployment, stop)
		caddyfile := read(t, deployment, "Caddyfile")
		if !strings.Contains(caddyfile, "{$ADMIN:unix//run/caddy/admin.sock|0660}") || setting(t, text, "RuntimeDirectory") != "caddy" ||
			!strings.Contains(setting(t, text, "ExecReload"), "--address unix//run/caddy/admin.sock") {
			t.Errorf("%s: a reload does not find the socket", deployment)
		}
		name, file, _ := strings.Cut(setting(t, text, "LoadCredential"), ":")
		if !strings.Contains(caddyfile, "{$CREDENTIALS_DIRECTORY:/run/credentials/caddy.service}/"+name+"}") || file == "" {
			t.Errorf("%s: the token is not the credential %s", deployment, name)
		}
	}
	// With the drop-in the reload finds the socket as well, and no credential is
	// needed.
	dropIn := unit + read(t, "..", "duckdns", "caddy.service.d", "duckdns.conf")
	if admin := setting(t, dropIn, "Environment"); admin != "CADDY_ADMIN=unix//run/caddy/admin.sock|0660" ||
		setting(t, dropIn, "LoadCredential") != "" || setting(t, dropIn, "EnvironmentFile") != "/etc/caddy/duckdns.env" {
		t.Errorf("duckdns: the unit does not fit its Caddyfiles: %s", admin)
	}
	if strings.Contains(unit, "--environ") {
		t.Error("the environment is printed to the journal")
	}
	if folder := setting(t, read(t, "keepalived", "caddy.service.d", "keepalived.conf"), "ReadWritePaths"); !strings.Contains(read(t, "keepalived", "Caddyfile"), "{$CERTIFICATES:"+folder+"}") {
		t.Errorf("Caddy may write to %s only", folder)
	}
	// A node waits longer than the balancer, or the balancer in vain.
	node, err := time.ParseDuration(strings.Replace(setting(t, read(t, "systemd", "node", "plexlb-node.service"), "TimeoutStopSec"), "min", "m", 1))
	if err != nil {
		t.Fatal(err)
	}
	wait, err := time.ParseDuration(regexp.MustCompile(`\$\{WAIT:-(\w+)\}`).FindStringSubmatch(read(t, "systemd", "plexlb-drain"))[1])
	if err != nil || node < wait+30*time.Second {
		t.Errorf("the node waits %v, the balancer %v (%v)", node, wait, err)
	}
}

func TestKeepalived(t *testing.T) {
	keepalived := tool(t, "keepalived")
	conf := read(t, "keepalived", "keepalived.conf")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	// The user of the check does not exist here. Besides, while it tests a
	// file keepalived 2.2 ends itself when it changes to another user.
	ours := strings.Replace(conf, "script_user keepalived_script", "script_user "+me.Username, 1)
	other := strings.NewReplacer("router_id lb1", "router_id lb2", "priority 100", "priority 99",
		"unicast_src_ip 192.168.1.2 ", "unicast_src_ip 192.168.1.3 ", "\n        192.168.1.3 ", "\n        192.168.1.2 ").Replace(ours)
	if ours == conf || other == ours {
		t.Fatal("the file is not what this test knows")
	}
	for name, text := range map[string]string{"lb1": ours, "lb2": other} {
		file := filepath.Join(t.TempDir(), name+".conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(keepalived, "--config-test", "--use-file", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	// What it asks is there.
	if caddyfile := read(t, "keepalived", "Caddyfile"); !strings.Contains(conf, " http://127.0.0.1:8081/ready\"") ||
		!strings.Contains(caddyfile, "\nhttp://127.0.0.1:{$PROBES:8081} {\n") || !strings.Contains(caddyfile, "\n\thandle /ready {\n") {
		t.Error("the check asks nobody")
	}
	// The address has moved before the old holder stops serving.
	delay, err := time.ParseDuration(regexp.MustCompile(`(?m)^\tshutdown_delay (\S+)$`).FindStringSubmatch(read(t, "keepalived", "Caddyfile"))[1])
	if err != nil || delay < 4*time.Second {
		t.Errorf("%v are too short for two checks and an election (%v)", delay, err)
	}
}

// Scripts are what the shells of hosts can read.
func TestScripts(t *testing.T) {
	for _, script := range []string{"systemd/plexlb-drain", "systemd/node/plexlb-node"} {
		path := filepath.Join(examples, script)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("%s cannot be run (%v)", script, err)
		}
		if out, err := exec.Command("sh", "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
}

// A node drains what runs, and nothing that has crashed: systemd stops the unit
// of the node before it starts PMS again, which would wait for the drain.
func TestNodeDrainsWhatRuns(t *testing.T) {
	tool(t, "curl")
	pms := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable) // as in maintenance
	}))
	defer pms.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	dir := t.TempDir()
	called := filepath.Join(dir, "called")
	ssh := "#!/bin/sh\nfor word; do :; done\necho \"$word\" >>" + called + "\n"
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(ssh), 0o755); err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct{ url, want string }{
		"a PMS that runs":    {pms.URL, "drain\ndrain\n"},
		"a PMS that is gone": {gone.URL, ""},
	} {
		_ = os.Remove(called)
		node := exec.Command(filepath.Join(examples, "systemd", "node", "plexlb-node"), "drain")
		node.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "BALANCERS=lb1 lb2", "PMS="+tc.url)
		if out, err := node.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
		if got, _ := os.ReadFile(called); string(got) != tc.want {
			t.Errorf("%s: the balancers were told %q, want %q", what, got, tc.want)
		}
	}
}

// A balancer that cannot be reached when PMS is back is called again, for a
// while, and keeps the others waiting for nothing.
func TestNodeUndrainsAgain(t *testing.T) {
	tool(t, "curl")
	pms := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(pms.Close)
	for what, tc := range map[string]struct {
		fails int // calls to lb2 that do
		stop  bool
		ok    bool
	}{
		"both can be reached":                {0, false, true},
		"one cannot at first":                {2, false, true},
		"one never can":                      {1000, false, false},
		"PMS is stopped while one cannot be": {1000, true, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			called := filepath.Join(dir, "called")
			for name, script := range map[string]string{
				"ssh": "for word; do before=${last-}; last=$word; done\necho \"$before $last\" >>" + called + "\n" +
					"[ \"$before\" = lb1 ] || [ $(grep -c lb2 " + called + ") -gt " + strconv.Itoa(tc.fails) + " ]\n",
				"sleep": "exec /bin/sleep 0.1\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			node := exec.Command(filepath.Join(examples, "systemd", "node", "plexlb-node"), "undrain")
			node.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "BALANCERS=lb1 lb2", "PMS="+pms.URL, "RETRY=2")
			node.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as systemd does
			var said strings.Builder
			node.Stderr = &said
			if err := node.Start(); err != nil {
				t.Fatal(err)
			}
			if tc.stop {
				time.Sleep(700 * time.Millisecond)
				if err := node.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			begin := time.Now()
			err := node.Wait()
			if (err == nil) != tc.ok {
				t.Errorf("ended with %v\n%s", err, &said)
			}
			if d := time.Since(begin); d > 10*time.Second {
				t.Errorf("tried for %v", d)
			}
			out, _ := os.ReadFile(called)
			got := strings.Split(strings.TrimSpace(string(out)), "\n")
			if tc.stop {
				// Both are drained, and neither is undrained any more.
				drained := got[len(got)-2:]
				got = got[:len(got)-2]
				slices.Sort(drained)
				if !slices.Equal(drained, []string{"lb1 drain", "lb2 drain"}) {
					t.Errorf("the balancers were told %v at last", drained)
				}
			}
			calls := make(map[string]int)
			for _, call := range got {
				calls[call]++
			}
			tries := calls["lb2 undrain"]
			if calls["lb1 undrain"] != 1 || len(calls) != 2 || tc.ok && tries != tc.fails+1 || tries < min(tc.fails, 2) {
				t.Errorf("the balancers were told %v", calls)
			}
		})
	}
}
