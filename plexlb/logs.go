package plexlb

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

func init() {
	caddy.RegisterModule(LogEncoder{})
}

// LogEncoder is a log format without tokens. It takes out of the addresses of
// requests whatever follows token=, however it is escaped, and out of errors
// that name an address, and leaves out the headers that hold tokens or repeat
// addresses. Caddy's own filter does that; but the reverse proxy has every
// request encoded in case there is something to log, which with a filter makes a
// small request about a tenth dearer (BENCHMARKS.md). This format has it encoded when
// there is.
//
// Headers of other names in which something in front of Caddy passes addresses
// on are logged as they are, and so are messages.
type LogEncoder struct {
	// What writes the rest. Default: json, or console where the log goes to a
	// terminal.
	WrappedRaw json.RawMessage `json:"wrap,omitempty" caddy:"namespace=caddy.logging.encoders inline_key=format"`

	// Filters of more fields, as Caddy's format filter has them. Those that
	// this format filters itself can only be deleted.
	FieldsRaw map[string]json.RawMessage `json:"fields,omitempty" caddy:"namespace=caddy.logging.encoders.filter inline_key=filter"`

	encoder zapcore.Encoder // Caddy's filter; it may be others' as well
	later   []zapcore.Field // what is to be encoded if something is logged
	open    zapcore.Encoder // while a format around this one encodes an object
}

// CaddyModule returns the Caddy module information.
func (LogEncoder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.encoders.plexlb", New: func() caddy.Module { return new(LogEncoder) }}
}

// Provision sets up the filter.
func (e *LogEncoder) Provision(ctx caddy.Context) error {
	filter := &logging.FilterEncoder{WrappedRaw: e.WrappedRaw, FieldsRaw: e.FieldsRaw}
	e.encoder = filter
	if err := filter.Provision(ctx); err != nil {
		return err
	}
	const inAddress = `(?i)(token(?:[=:]|%(?:25)*3[AD]))[^&]*`
	const inError = `(?i)(token(?:[=:]|%(?:25)*3[AD])|got: ')[^&'" ]+` // the latter is DuckDNS's plug-in's
	own := make(map[string]logging.LogFieldFilter)
	for field, expression := range map[string]string{"request>uri": inAddress, "uri": inAddress, "error": inError} {
		f := &logging.RegexpFilter{RawRegexp: expression, Value: "${1}REDACTED"}
		if err := f.Provision(ctx); err != nil {
			return err
		}
		own[field] = f
	}
	for header, in := range map[string]string{
		"X-Plex-Token": "request>headers>", "X-Forwarded-Uri": "request>headers>", "Referer": "request>headers>", "Cookie": "request>headers>",
		"Location": "resp_headers>",
	} {
		own[in+header] = logging.DeleteFilter{}
		own[header] = logging.DeleteFilter{} // as a filter around this format has it
	}
	own["headers>Location"] = logging.DeleteFilter{}
	for field, f := range own {
		switch filter.Fields[field].(type) {
		case nil:
			filter.Fields[field] = f
		case *logging.DeleteFilter:
		default:
			return fmt.Errorf("log format plexlb takes tokens out of the field %s itself; another filter for it can only be delete", field)
		}
	}
	return nil
}

// ConfigureDefaultFormat chooses what writes the rest.
func (e *LogEncoder) ConfigureDefaultFormat(to caddy.WriterOpener) error {
	return e.encoder.(*logging.FilterEncoder).ConfigureDefaultFormat(to)
}

// UnmarshalCaddyfile reads what Caddy's filter knows:
//
//	plexlb {
//		wrap <format>
//		<field> <filter> …
//	}
func (e *LogEncoder) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	d = d.NewFromNextSegment()
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	d.Reset()
	var filter logging.FilterEncoder
	err := filter.UnmarshalCaddyfile(d)
	e.WrappedRaw, e.FieldsRaw = filter.WrappedRaw, filter.FieldsRaw
	return err
}

// AddObject has a request wait. Other objects may change until something is
// logged.
func (e *LogEncoder) AddObject(key string, o zapcore.ObjectMarshaler) error {
	if e.open != nil {
		return e.open.AddObject(key, o)
	}
	if _, ok := o.(caddyhttp.LoggableHTTPRequest); ok {
		e.add(zap.Object(key, o))
		return nil
	}
	e.open = e.now()
	defer func() { e.open = nil }()
	return e.open.AddObject(key, o)
}

// AddArray encodes, as an array may change.
func (e *LogEncoder) AddArray(key string, a zapcore.ArrayMarshaler) error {
	return e.now().AddArray(key, a)
}

// AddReflected encodes, as what a value leads to may change.
func (e *LogEncoder) AddReflected(key string, value any) error {
	return e.now().AddReflected(key, value)
}

// OpenNamespace encodes, as it is no field.
func (e *LogEncoder) OpenNamespace(key string) { e.now().OpenNamespace(key) }

// The rest of zapcore.ObjectEncoder waits.

func (e *LogEncoder) AddBinary(key string, v []byte)          { e.add(zap.Binary(key, slices.Clone(v))) }
func (e *LogEncoder) AddBool(key string, v bool)              { e.add(zap.Bool(key, v)) }
func (e *LogEncoder) AddByteString(key string, v []byte)      { e.add(zap.ByteString(key, slices.Clone(v))) }
func (e *LogEncoder) AddComplex128(key string, v complex128)  { e.add(zap.Complex128(key, v)) }
func (e *LogEncoder) AddComplex64(key string, v complex64)    { e.add(zap.Complex64(key, v)) }
func (e *LogEncoder) AddDuration(key string, v time.Duration) { e.add(zap.Duration(key, v)) }
func (e *LogEncoder) AddFloat64(key string, v float64)        { e.add(zap.Float64(key, v)) }
func (e *LogEncoder) AddFloat32(key string, v float32)        { e.add(zap.Float32(key, v)) }
func (e *LogEncoder) AddInt(key string, v int)                { e.add(zap.Int(key, v)) }
func (e *LogEncoder) AddInt64(key string, v int64)            { e.add(zap.Int64(key, v)) }
func (e *LogEncoder) AddInt32(key string, v int32)            { e.add(zap.Int32(key, v)) }
func (e *LogEncoder) AddInt16(key string, v int16)            { e.add(zap.Int16(key, v)) }
func (e *LogEncoder) AddInt8(key string, v int8)              { e.add(zap.Int8(key, v)) }
func (e *LogEncoder) AddString(key, v string)                 { e.add(zap.String(key, v)) }
func (e *LogEncoder) AddTime(key string, v time.Time)         { e.add(zap.Time(key, v)) }
func (e *LogEncoder) AddUint(key string, v uint)              { e.add(zap.Uint(key, v)) }
func (e *LogEncoder) AddUint64(key string, v uint64)          { e.add(zap.Uint64(key, v)) }
func (e *LogEncoder) AddUint32(key string, v uint32)          { e.add(zap.Uint32(key, v)) }
func (e *LogEncoder) AddUint16(key string, v uint16)          { e.add(zap.Uint16(key, v)) }
func (e *LogEncoder) AddUint8(key string, v uint8)            { e.add(zap.Uint8(key, v)) }
func (e *LogEncoder) AddUintptr(key string, v uintptr)        { e.add(zap.Uintptr(key, v)) }

func (e *LogEncoder) add(f zapcore.Field) {
	if e.open != nil {
		f.AddTo(e.open)
		return
	}
	e.later = append(e.later, f)
}

// now encodes what waits, and returns the encoder, which is nobody else's.
func (e *LogEncoder) now() zapcore.Encoder {
	if e.open != nil {
		return e.open
	}
	e.encoder = e.encoder.Clone()
	for _, f := range e.later {
		f.AddTo(e.encoder)
	}
	e.later = nil
	return e.encoder
}

// Clone returns an encoder that goes on from here.
func (e *LogEncoder) Clone() zapcore.Encoder {
	return &LogEncoder{encoder: e.encoder, later: slices.Clip(e.later)}
}

// EncodeEntry writes an entry.
func (e *LogEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	return e.encoder.EncodeEntry(entry, slices.Concat(e.later, fields))
}

var (
	_ caddy.Provisioner                = (*LogEncoder)(nil)
	_ caddy.ConfiguresFormatterDefault = (*LogEncoder)(nil)
	_ caddyfile.Unmarshaler            = (*LogEncoder)(nil)
	_ zapcore.Encoder                  = (*LogEncoder)(nil)
)
