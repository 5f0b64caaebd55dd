//go:build unix

package integration

import (
	"testing"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

func TestDoctorCommand(t *testing.T) {
	m := &managed{admin: freeAddr(t), servers: stand(t, 3, func(_ int, cfg *plextest.Config) {
		cfg.MachineIdentifier, cfg.Database = "clone", "clone"
	})}
	m.balancer = load(t, patient(m.config(replicated, "")))
	m.golden("doctor_nothing", 0, "plexlb", "doctor")
	m.golden("doctor_nothing_json", 0, "plexlb", "doctor", "--json")

	m.servers[1].SetVersion("1.40.0-\x1b[2J")
	m.servers[1].SetPreference("RelayEnabled", true)
	m.servers[2].HidePreference("RelayEnabled")
	m.servers[2].SetPreference("PlexOnlineToken", token)
	m.golden("doctor_warnings", 0, "plexlb", "doctor")
	m.golden("doctor_warnings_json", 0, "plexlb", "doctor", "--json")

	m.servers[0].SetPreference("allowedNetworks", "127.0.0.0/8")
	m.servers[1].SetPoll(plextest.Poll403)
	m.golden("doctor", 1, "plexlb", "doctor")
	m.golden("doctor_json", 1, "plexlb", "doctor", "--json")

	m.golden("doctor_usage", 2, "plexlb", "doctor", "plex1")
	if err := m.reload(m.with("", "\trespond ok\n", "")); err != nil {
		t.Fatal(err)
	}
	m.golden("doctor_not_configured", 1, "plexlb", "doctor")
}
