// Package loglimit limits the records of a log, so that a peer that sends many invalid messages cannot fill it.
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// Burst is how many records with the same text are passed on in each [Period]: enough to see that a problem
	// concerns several peers.
	Burst = 5

	// Period is the time after which the count of a text starts again. The number of records that were left out
	// is then logged.
	Period = time.Minute

	// maxTexts bounds the texts that are counted separately. The texts of this module are constants and far fewer.
	maxTexts = 64
)

// Handler passes on at most [Burst] records with the same text in each [Period], and counts the others. The text does
// not include the attributes, because a peer chooses their values.
type Handler struct {
	next    slog.Handler
	limiter *limiter
}

type limiter struct {
	mu    sync.Mutex
	texts map[string]*count
}

// count is the number of records with one text since a point in time.
type count struct {
	since   time.Time
	passed  int
	leftOut int
	level   slog.Level
}

// New returns a limited logger, and the handler behind it. A nil logger means [slog.Default].
func New(logger *slog.Logger) (*slog.Logger, *Handler) {
	if logger == nil {
		logger = slog.Default()
	}
	handler := &Handler{logger.Handler(), &limiter{texts: make(map[string]*count)}}
	return slog.New(handler), handler
}

// Enabled reports whether the level is logged at all.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// WithAttrs returns a handler with attributes and the same limit.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.next.WithAttrs(attrs), h.limiter}
}

// WithGroup returns a handler with a group and the same limit.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.limiter}
}

// Handle passes on a record, or counts it. The first record of a period has the number of records that were left out
// before it.
func (h *Handler) Handle(ctx context.Context, record slog.Record) error {
	leftOut, pass := h.limiter.admit(record)
	if !pass {
		return nil
	}
	if leftOut > 0 {
		record = record.Clone()
		record.AddAttrs(slog.Int("left_out_before", leftOut))
	}
	return h.next.Handle(ctx, record)
}

// Flush logs how many records were left out in the periods that have ended by now.
func (h *Handler) Flush(now time.Time) {
	h.flush(now, func(c *count) bool { return now.Sub(c.since) >= Period })
}

// Close logs how many records were left out and not logged yet.
func (h *Handler) Close(now time.Time) {
	h.flush(now, func(*count) bool { return true })
}

func (h *Handler) flush(now time.Time, isDue func(*count) bool) {
	for _, record := range h.limiter.take(now, isDue) {
		// As elsewhere in slog, an error of the handler is not reported.
		_ = h.next.Handle(context.Background(), record)
	}
}

func (l *limiter) admit(record slog.Record) (leftOut int, pass bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := record.Message
	c := l.texts[text]
	if c == nil && len(l.texts) >= maxTexts {
		text = ""
		c = l.texts[text]
	}
	if c == nil {
		c = &count{since: record.Time}
		l.texts[text] = c
	}
	if record.Time.Sub(c.since) >= Period {
		leftOut = c.leftOut
		*c = count{since: record.Time}
	}
	c.level = record.Level
	if c.passed == Burst {
		c.leftOut++
		return 0, false
	}
	c.passed++
	return leftOut, true
}

// take returns the records that report the counts that are due, and resets these counts.
func (l *limiter) take(now time.Time, isDue func(*count) bool) (records []slog.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for text, c := range l.texts {
		if c.leftOut == 0 || !isDue(c) {
			continue
		}
		record := slog.NewRecord(now, c.level, text, 0)
		record.AddAttrs(slog.Int("left_out", c.leftOut))
		records = append(records, record)
		*c = count{since: now, level: c.level}
	}
	return records
}
