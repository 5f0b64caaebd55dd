package plextest

import "fmt"

// Media is a film as one server's encoder makes it, for players that decode
// what they get. Representations are base for HLS, and for DASH 0, the video,
// and 1, the audio.
type Media interface {
	// Header returns the init segment of a representation of DASH.
	Header(rep string) []byte

	// Segment returns segment n of a representation, which begins n times
	// [Config.SegmentDuration] into the film, also by its timestamps.
	Segment(rep string, n int) []byte

	// Codecs returns what manifests call the encoding of a representation.
	Codecs(rep string) string
}

// content is what is sent of a transcode: segment n, or the header if that is
// -1.
func (s *Server) content(j *job, rep string, n int) []byte {
	switch m := s.cfg.Media; {
	case m == nil:
		return s.body(j, rep, n).bytes(s.cfg.SegmentSize)
	case n < 0:
		return m.Header(rep)
	default:
		return m.Segment(rep, n)
	}
}

// codecs is the attribute of a manifest that names an encoding.
func (s *Server) codecs(rep string) string {
	if s.cfg.Media == nil {
		return ""
	}
	return fmt.Sprintf(" codecs=%q", s.cfg.Media.Codecs(rep))
}
