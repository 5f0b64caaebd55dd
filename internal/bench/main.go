// Command bench measures plexlb and prints the numbers as Markdown.
//
//	go run ./internal/bench balance [-seeds <n>] [-only <scenario>] [-write <file>]
//
// simulates how evenly playbacks are placed. With -write the numbers also go
// between the markers of their section of the file.
//
//	go run ./internal/bench players [-from <table>] [-write <file>]
//
// prints what the tests of internal/e2e/players have measured last, and with
// -write puts it into its section likewise.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/bench/balance"
	"github.com/plexlb/caddy-plexlb/internal/bench/section"
)

var commands = map[string]func(args []string) error{"balance": runBalance, "players": runPlayers}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, "usage: bench balance [-seeds <n>] [-only <scenario>] [-write <file>]\n       bench players [-from <table>] [-write <file>]\n")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runBalance(args []string) error {
	flags := flag.NewFlagSet("bench balance", flag.ExitOnError)
	seeds := flags.Int("seeds", 12, "how often each scenario is played, with seeds 0, 1, 2…; those with many servers less often")
	only := flags.String("only", "", "the one scenario to play")
	file := flags.String("write", "", "the Markdown file to update")
	_ = flags.Parse(args) // it exits by itself
	if *seeds < 1 {
		return fmt.Errorf("-seeds is %d: use 1 or more", *seeds)
	}
	scenarios := balance.Scenarios()
	if *only != "" {
		scenarios = slices.DeleteFunc(scenarios, func(s balance.Scenario) bool { return s.Name != *only })
	}
	if len(scenarios) == 0 {
		return fmt.Errorf("there is no scenario %q", *only)
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, balance.Preface, time.Now().Format(time.DateOnly), processor(), runtime.NumCPU(), runtime.Version(),
		strings.Join(append([]string{"go run ./internal/bench balance"}, args...), " "), *seeds)
	began := time.Now()
	said := func(name string) {
		fmt.Fprintf(os.Stderr, "%6s  %s\n", time.Since(began).Round(time.Second), name)
	}
	if err := balance.Report(&text, scenarios, *seeds, said); err != nil {
		return err
	}
	if _, err := os.Stdout.Write(text.Bytes()); err != nil || *file == "" {
		return err
	}
	return section.Replace(*file, "balance", text.String())
}

// processor is the model of the machine's, as far as the system tells.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}
