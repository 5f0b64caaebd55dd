package plexlb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logTo makes a logger that writes JSON into b, and one that does the same by
// Caddy's filter alone.
func logTo(t testing.TB, b *bytes.Buffer) (ours, filter *zap.Logger) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	e := new(LogEncoder)
	if err := e.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	logger := func(e zapcore.Encoder) *zap.Logger {
		return zap.New(zapcore.NewCore(e, zapcore.AddSync(b), zapcore.InfoLevel), zap.WithClock(stopped{}))
	}
	return logger(e), logger(e.encoder)
}

// stopped is a clock.
type stopped struct{}

func (stopped) Now() time.Time                         { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }
func (stopped) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }

func loggable(uri string, header ...string) caddyhttp.LoggableHTTPRequest {
	r := httptest.NewRequest(http.MethodGet, uri, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return caddyhttp.LoggableHTTPRequest{Request: r, ShouldLogCredentials: true}
}

// film is an object that changes.
type film struct{ title string }

func (f *film) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString("title", f.title)
	return nil
}

// Whatever is logged, and in whatever order loggers are made, it is what Caddy's
// filter would have logged.
func TestLogsAreThoseOfTheFilter(t *testing.T) {
	when := stopped{}.Now()
	of := loggable("/library?X-Plex-Token=Sq7100X&x=1", "X-Plex-Token", "Sq7100X", "Accept", "*/*")
	for name, log := range map[string]func(*zap.Logger){
		"nothing before": func(l *zap.Logger) { l.Info("m", zap.Object("request", of), zap.Int("status", 200)) },
		"a request before": func(l *zap.Logger) {
			l.With(zap.String("upstream", "a:1"), zap.Duration("duration", time.Second), zap.Object("request", of)).Info("m", zap.Int("status", 200))
		},
		"one after the other": func(l *zap.Logger) {
			l = l.With(zap.Object("request", of), zap.Int("i", 1), zap.Int("j", 2))
			a, b := l.With(zap.Int("n", 1)), l.With(zap.Int("n", 2))
			a.Info("a")
			b.Info("b")
			l.Info("l")
			a.Info("a again", zap.String("uri", "/x?token=Sq7100X"))
		},
		"a namespace": func(l *zap.Logger) {
			l.With(zap.Object("request", of), zap.Namespace("in"), zap.Object("request", of), zap.Int("n", 1)).Info("m", zap.Int("k", 2))
		},
		"an object that changes": func(l *zap.Logger) {
			f := &film{"before"}
			l = l.With(zap.Object("film", f), zap.Object("request", of))
			f.title = "after"
			l.Info("m")
			l.With(zap.Object("film", f)).Info("m")
			l.Info("m")
		},
		"bytes that change": func(l *zap.Logger) {
			b := []byte("before")
			l = l.With(zap.ByteString("bytes", b), zap.Binary("binary", b), zap.Strings("list", []string{"x"}), zap.Any("any", map[string]int{"x": 1}))
			copy(b, "after!")
			l.Info("m")
		},
		"an error": func(l *zap.Logger) {
			l.With(zap.Error(errors.New(`Get "https://a/?token=Sq7100X&x": no`))).Info("m")
			l.Error("m", zap.Error(errors.New("got: 'Sq7100X'")))
		},
		"all kinds": func(l *zap.Logger) {
			l.With(zap.Bool("bool", true), zap.Complex128("complex128", 1i), zap.Complex64("complex64", 1i), zap.Float64("float64", 1.5),
				zap.Float32("float32", 1.5), zap.Int("int", 1), zap.Int64("int64", 1), zap.Int32("int32", 1), zap.Int16("int16", 1),
				zap.Int8("int8", 1), zap.Uint("uint", 1), zap.Uint64("uint64", 1), zap.Uint32("uint32", 1), zap.Uint16("uint16", 1),
				zap.Uint8("uint8", 1), zap.Uintptr("uintptr", 1), zap.Time("time", when), zap.String("uri", "/?token%3dSq7100X"),
				zap.Stringer("stringer", time.Second)).Info("m")
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got, want bytes.Buffer
			ours, _ := logTo(t, &got)
			_, filter := logTo(t, &want)
			log(ours)
			log(filter)
			if got.Len() == 0 || got.String() != want.String() {
				t.Errorf("logged:\n%s\nwant:\n%s", &got, &want)
			}
			if strings.Contains(got.String(), "Sq7100X") {
				t.Errorf("a token is in %s", &got)
			}
		})
	}
}

// More can be filtered, tokens never less; and a format around it, which splits
// objects, neither breaks a line nor lets a token through.
func TestLogsAreFilteredFurther(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	of := loggable("/library?X-Plex-Token=Sq7100X", "X-Plex-Token", "Sq7100X", "Accept", "*/*", "Referer", "https://a/?token=Sq7100X")
	for text, want := range map[string][]string{
		"plexlb {\nrequest>remote_ip delete\nstatus delete\n}":       {"remote_port", "Accept"},
		"plexlb {\nrequest>uri delete\nrequest>remote_ip delete\n}":  {"remote_port", "Accept"},
		"filter {\nwrap plexlb\nrequest>remote_ip delete\n}":         {"remote_port", "Accept", "status", "uri"},
		"filter {\nwrap plexlb {\nwrap json\n}\nremote_ip delete\n}": {"remote_port", "Accept", "status", "uri"},
	} {
		d := caddyfile.NewTestDispenser(text)
		d.Next()
		name := strings.Fields(text)[0]
		module, err := caddyfile.UnmarshalModule(d, "caddy.logging.encoders."+name)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := module.(caddy.Provisioner).Provision(ctx); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for way, log := range map[string]func(*zap.Logger){
			"with": func(l *zap.Logger) {
				l.With(zap.Object("request", of), zap.Int("n", 1)).Info("m", zap.Int("status", 200))
			},
			"plain": func(l *zap.Logger) { l.Info("m", zap.Object("request", of), zap.Int("n", 1), zap.Int("status", 200)) },
		} {
			var b bytes.Buffer
			log(zap.New(zapcore.NewCore(module.(zapcore.Encoder), zapcore.AddSync(&b), zapcore.InfoLevel)))
			if !json.Valid(b.Bytes()) || strings.Contains(b.String(), "Sq7100X") {
				t.Errorf("%s, %s: %s", text, way, &b)
			}
			for _, word := range want {
				if !strings.Contains(b.String(), `"`+word+`"`) {
					t.Errorf("%s, %s: no %s in %s", text, way, word, &b)
				}
			}
			if strings.Contains(text, "request>remote_ip") && strings.Contains(b.String(), `"remote_ip"`) {
				t.Errorf("%s, %s: %s", text, way, &b)
			}
		}
	}
	e := &LogEncoder{FieldsRaw: map[string]json.RawMessage{"request>uri": json.RawMessage(`{"filter":"rename","name":"u"}`)}}
	if err := e.Provision(ctx); err == nil || !strings.Contains(err.Error(), "request>uri") {
		t.Errorf("another filter of addresses: %v", err)
	}
}

// usual is what the reverse proxy has encoded of each request.
func usual() []zap.Field {
	return []zap.Field{
		zap.String("upstream", "a:1"), zap.Duration("duration", time.Second),
		zap.Object("request", loggable("/library?X-Plex-Token=Sq7100X", "Accept", "*/*", "Accept-Language", "en", "User-Agent", "Mozilla/5.0")),
	}
}

// What is not logged is not encoded.
func TestLogsCostNothingUntilWritten(t *testing.T) {
	var b bytes.Buffer
	ours, filter := logTo(t, &b)
	fields := usual()
	cost := func(l *zap.Logger) float64 {
		return testing.AllocsPerRun(100, func() { l.With(fields...).Debug("m") })
	}
	x, y := cost(ours), cost(filter)
	t.Logf("%v allocations, with the filter %v", x, y)
	if x > 10 || y < 2*x {
		t.Errorf("%v allocations, with the filter %v", x, y)
	}
}

func TestLogFormatInCaddyfile(t *testing.T) {
	for text, want := range map[string]string{
		"plexlb":                          "",
		"plexlb {\n}":                     "",
		"plexlb {\nwrap console\n}":       `{"format":"console"}`,
		"plexlb json":                     "wrong argument count",
		"plexlb {\nwrap\n}":               "wrong argument count",
		"plexlb {\nwrap nothing\n}":       "caddy.logging.encoders.nothing",
		"plexlb {\nwrap filter.delete\n}": "is not a zapcore.Encoder",
	} {
		e := new(LogEncoder)
		err := e.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
		if got := string(e.WrappedRaw); err == nil && got != want || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
}

func BenchmarkLogs(b *testing.B) {
	var out bytes.Buffer
	ours, filter := logTo(b, &out)
	fields := usual()
	for name, l := range map[string]*zap.Logger{"plexlb": ours, "filter": filter} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.With(fields...).Debug("m")
			}
		})
	}
}
