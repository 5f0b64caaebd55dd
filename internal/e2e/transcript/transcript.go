// Package transcript keeps what programs under test write.
package transcript

import (
	"bytes"
	"sync"
)

// Transcript is what a program has written so far. It may be read while the
// program runs.
type Transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write takes down what is written.
func (t *Transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

// String returns what was written so far.
func (t *Transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
