package plexlb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "plexlb",
		Usage: "<command>",
		Short: "Shows and moves what Plex Media Servers play",
		Long: `
Shows the servers and playbacks of the running Caddy, says why a playback is
where it is, and lets you take servers out of use. All commands ask Caddy's
admin endpoint.

Exit codes: 0 it worked, 1 it did not, or the doctor found an error, 2 the
command line is wrong, 3 the server was not empty in time (drain --wait
--timeout).`,
		CobraFunc: commands,
	})
}

// The exit codes other than 0 and 1.
const (
	exitUsage = 2
	exitLate  = 3
)

// commands builds the command and those below it.
func commands(top *cobra.Command) {
	top.PersistentFlags().String("address", "", "Address of the admin endpoint, if not the one of the config")
	top.PersistentFlags().StringP("config", "c", "", "Config file in which to look for the admin address")
	top.PersistentFlags().StringP("adapter", "a", "", "Name of the config adapter, if the config is not JSON")
	top.PersistentFlags().Bool("json", false, "Print JSON, as the admin endpoint answers")
	top.SuggestionsMinimumDistance = 2
	top.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return fail(cmd, usageError{err}) })
	top.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
			text += "; did you mean " + strings.Join(like, " or ") + "?"
		}
		return fail(cmd, usageError{errors.New(text)})
	}

	status := command(top, "status", "Shows the servers", nil, showStatus)
	status.Long = `Shows each server's load in hardware transcodes, and what it is made of.`

	sessions := command(top, "sessions", "Shows the playbacks", nil, showSessions)
	sessions.Flags().String("server", "", "Only those on this server")
	sessions.Flags().Bool("all", false, "Also those that have ended")
	_ = sessions.RegisterFlagCompletionFunc("server", completing(serverNames))

	command(top, "explain <session>", "Says why a playback is where it is", []completion{sessionIDsOf}, explainSession).
		Long = `Says why a playback is where it is: the candidates as they stood when it was
placed, and each of its moves. The session is any id that its client uses.`

	drain := command(top, "drain <server>", "Lets a server take no new playbacks", []completion{serverNames}, drainCommand)
	drain.Flags().Bool("move", false, "Carry the present ones to other servers at once")
	drain.Flags().Duration("move-after", 0, "Carry them away after this time")
	drain.Flags().Bool("wait", false, "Wait until the server is empty")
	drain.Flags().Duration("timeout", 0, "Wait no longer than this, and exit with 3")

	command(top, "undrain <server>", "Lets a server take new playbacks again", []completion{serverNames}, undrainCommand)

	command(top, "move <session> <server>", "Carries a playback to another server", []completion{sessionIDsOf, serverNames}, moveCommand)

	balance := command(top, "rebalance", "Carries playbacks until no move lowers the highest load", nil, rebalanceCommand)
	balance.Flags().Bool("dry-run", false, "Only say which")

	command(top, "doctor", "Checks configuration and servers, and says what to change", nil, doctorCommand).
		Long = `Checks the configuration and every server, and says what to change and why. It
asks the servers, and changes nothing. The exit code is 1 if there is an error,
and 0 if there are warnings only.`

	watch := command(top, "watch", "Shows servers and playbacks as they change", nil, watchCommand)
	watch.Flags().Duration("interval", 2*time.Second, "How often to look")
	watch.Flags().Int("lines", 20, "Most playbacks to show, the latest first")
}

// command adds one command. Its arguments are as many as have completions.
func command(top *cobra.Command, use, short string, args []completion, run func(*client, []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, given []string) error {
			// An empty one is a variable of a script that is not set.
			if len(given) == len(args) && !slices.Contains(given, "") {
				return nil
			}
			return fail(cmd, usageError{fmt.Errorf("usage: %s", strings.TrimSpace(cmd.UseLine()))})
		},
		ValidArgsFunction: completing(args...),
		RunE: func(cmd *cobra.Command, args []string) error {
			return fail(cmd, run(newClient(cmd), args))
		},
	}
	top.AddCommand(cmd)
	return cmd
}

// usageError says that the command line is wrong.
type usageError struct{ error }

// lateError says that a wait was over before the server was empty.
type lateError struct{ error }

// fail says what went wrong, and has Caddy exit with the code that goes with it.
func fail(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	cmd.SilenceErrors = true // we do it better
	if errors.Is(err, errFound) {
		return err
	}
	_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "Error:", clean(err.Error()))
	code := 0
	if _, ok := errors.AsType[usageError](err); ok {
		code = exitUsage
	} else if _, ok := errors.AsType[lateError](err); ok {
		code = exitLate
	}
	if code == 0 {
		return err
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, nil)
}

// client asks the admin endpoint for a command.
type client struct {
	cmd     *cobra.Command
	screen  screen
	json    bool
	address string
}

func newClient(cmd *cobra.Command) *client {
	c := &client{cmd: cmd, screen: newScreen(cmd.OutOrStdout())}
	c.json, _ = cmd.Flags().GetBool("json")
	return c
}

// refusal is an answer of the admin endpoint that says no.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

// ask does one call and reads the answer into v.
func (c *client) ask(method, path string, body, v any) (raw []byte, err error) {
	if c.address == "" {
		flag := func(name string) string {
			s, _ := c.cmd.Flags().GetString(name)
			return s
		}
		if c.address, err = caddycmd.DetermineAdminAPIAddress(flag("address"), nil, flag("config"), flag("adapter")); err != nil {
			return nil, fmt.Errorf("finding the admin endpoint: %w", err)
		}
	}
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(b)
	}
	// One connection for each, as each gets a transport of its own.
	res, err := caddycmd.AdminAPIRequest(c.address, method, adminPath+path, http.Header{"Connection": {"close"}}, sent)
	if err != nil {
		return nil, asRefusal(err)
	}
	defer res.Body.Close()
	if raw, err = io.ReadAll(res.Body); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return raw, nil
}

// asRefusal takes the endpoint's own words out of Caddy's error.
func asRefusal(err error) error {
	_, rest, ok := strings.Cut(err.Error(), "caddy responded with error: HTTP ")
	if !ok {
		return fmt.Errorf("asking Caddy's admin endpoint: %w", err)
	}
	code, body, _ := strings.Cut(rest, ": ")
	status, _ := strconv.Atoi(code)
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal([]byte(body), &answer) == nil && answer.Error != "" {
		return refusal{status, answer.Error}
	}
	if status == http.StatusNotFound {
		return refusal{status, "the Caddy that runs does not know this call: was it built with this plexlb?"}
	}
	return refusal{status, "HTTP " + strings.TrimSpace(rest)}
}

func serverPath(name string) string  { return "servers/" + segment(name) }
func sessionPath(id string) string   { return "sessions/" + segment(id) }
func (c *client) flag(n string) bool { b, _ := c.cmd.Flags().GetBool(n); return b }

// segment escapes what is one segment of a path, also where it is . or .., which
// would be taken for the way to another.
func segment(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

func showStatus(c *client, _ []string) error {
	var answer struct{ Servers []serverStatus }
	raw, err := c.ask(http.MethodGet, "servers", nil, &answer)
	if err != nil {
		return err
	}
	if c.json {
		return c.screen.raw(raw)
	}
	return c.screen.servers(answer.Servers)
}

func showSessions(c *client, _ []string) error {
	var answer struct{ Sessions []json.RawMessage }
	if _, err := c.ask(http.MethodGet, "sessions", nil, &answer); err != nil {
		return err
	}
	server, _ := c.cmd.Flags().GetString("server")
	list, kept := []sessionStatus{}, []json.RawMessage{}
	for _, one := range answer.Sessions {
		var s sessionStatus
		if err := json.Unmarshal(one, &s); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		if (server == "" || s.Server == server) && (s.State != "ended" || c.flag("all")) {
			list, kept = append(list, s), append(kept, one)
		}
	}
	if c.json {
		raw, err := json.Marshal(map[string]any{"sessions": kept})
		if err != nil {
			return err
		}
		return c.screen.raw(raw)
	}
	return c.screen.sessions(list, 0)
}

func explainSession(c *client, args []string) error {
	var s sessionStatus
	raw, err := c.ask(http.MethodGet, sessionPath(args[0]), nil, &s)
	if err != nil {
		return err
	}
	if c.json {
		return c.screen.raw(raw)
	}
	return c.screen.explain(&s)
}

func drainCommand(c *client, args []string) error {
	flags := c.cmd.Flags()
	after, _ := flags.GetDuration("move-after")
	timeout, _ := flags.GetDuration("timeout")
	body := make(map[string]any)
	switch {
	case c.flag("move") && flags.Changed("move-after"):
		return usageError{errors.New("use either --move or --move-after")}
	case flags.Changed("timeout") && !c.flag("wait"):
		return usageError{errors.New("--timeout says how long to --wait")}
	case after < 0, flags.Changed("timeout") && timeout <= 0:
		return usageError{errors.New("a time cannot be less than 0")}
	case c.flag("move"):
		body["move"] = true
	case flags.Changed("move-after"):
		body["move_after"] = after.String()
	}
	var s serverStatus
	raw, err := c.ask(http.MethodPost, serverPath(args[0])+"/drain", body, &s)
	if err != nil {
		return err
	}
	if c.flag("wait") {
		if raw, err = c.wait(args[0], timeout); err != nil {
			return err
		}
	}
	switch {
	case c.json:
		return c.screen.raw(raw)
	case c.flag("wait"):
		return c.screen.say("%s is empty", args[0])
	}
	return c.screen.say("%s takes no new playbacks; %s", args[0], left(&s))
}

func undrainCommand(c *client, args []string) error {
	var s serverStatus
	raw, err := c.ask(http.MethodPost, serverPath(args[0])+"/undrain", nil, &s)
	if err != nil {
		return err
	}
	if c.json {
		return c.screen.raw(raw)
	}
	return c.screen.say("%s takes new playbacks again", args[0])
}

func moveCommand(c *client, args []string) error {
	var s sessionStatus
	raw, err := c.ask(http.MethodPost, sessionPath(args[0])+"/move", map[string]string{"server": args[1]}, &s)
	if err != nil {
		return err
	}
	if c.json {
		return c.screen.raw(raw)
	}
	return c.screen.say("%s is on %s", args[0], s.Server)
}

func rebalanceCommand(c *client, _ []string) error {
	var done rebalanceStatus
	raw, err := c.ask(http.MethodPost, "rebalance", map[string]bool{"dry_run": c.flag("dry-run")}, &done)
	if err != nil {
		return err
	}
	if c.json {
		err = c.screen.raw(raw)
	} else {
		err = c.screen.moves(&done)
	}
	failed := 0
	for _, m := range done.Moves {
		if m.Error != "" {
			failed++
		}
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d playbacks could not be carried", failed, len(done.Moves))
	}
	return err
}

// errFound says that the doctor found an error, which it has told already.
var errFound = errors.New("errors found")

func doctorCommand(c *client, _ []string) error {
	var told checkup
	raw, err := c.ask(http.MethodGet, "doctor", nil, &told)
	if err != nil {
		return err
	}
	if c.json {
		err = c.screen.raw(raw)
	} else {
		err = c.screen.checkup(&told)
	}
	if err == nil && slices.ContainsFunc(told.Findings, func(f Finding) bool { return f.Level == LevelError }) {
		err = errFound
	}
	return err
}

// completion lists what an argument can be.
type completion func(*client) []cobra.Completion

// completing completes the arguments in their order.
func completing(args ...completion) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(given) >= len(args) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return args[len(given)](newClient(cmd)), cobra.ShellCompDirectiveNoFileComp
	}
}

func serverNames(c *client) (names []cobra.Completion) {
	var answer struct{ Servers []serverStatus }
	_, _ = c.ask(http.MethodGet, "servers", nil, &answer) // no completions, if it fails
	for _, s := range answer.Servers {
		names = append(names, cobra.CompletionWithDesc(clean(s.Name), s.State))
	}
	return names
}

func sessionIDsOf(c *client) (ids []cobra.Completion) {
	var answer struct{ Sessions []sessionStatus }
	_, _ = c.ask(http.MethodGet, "sessions", nil, &answer)
	for _, s := range answer.Sessions {
		if s.State != "ended" && s.ID == clean(s.ID) {
			ids = append(ids, cobra.CompletionWithDesc(s.ID, clean(s.Server+" "+s.Title)))
		}
	}
	return ids
}
