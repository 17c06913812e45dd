package loglimit

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"
)

// recorder is a handler that records texts and counts.
type recorder struct{ lines *[]string }

func (r recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r recorder) WithGroup(string) slog.Handler            { return r }
func (r recorder) Handle(_ context.Context, record slog.Record) error {
	line := record.Message
	record.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	*r.lines = append(*r.lines, line)
	return nil
}

func TestRecordsAreLimitedByTextAndCounted(t *testing.T) {
	var lines []string
	_, handler := New(slog.New(recorder{&lines}))
	began := time.Unix(0, 0)
	log := func(handler slog.Handler, at time.Duration, text string, attrs ...slog.Attr) {
		record := slog.NewRecord(began.Add(at), slog.LevelWarn, text, 0)
		record.AddAttrs(attrs...)
		if err := handler.Handle(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		log(handler.WithAttrs(nil), 0, "bad", slog.Int("peer", i))
	}
	log(handler, 0, "other")
	if want := []string{"bad peer=0", "bad peer=1", "bad peer=2", "bad peer=3", "bad peer=4", "other"}; !slices.Equal(lines, want) {
		t.Errorf("lines = %q, want %q", lines, want)
	}
	lines = nil
	handler.Flush(began.Add(Period / 2))
	log(handler, Period, "bad")
	if want := []string{"bad left_out_before=995"}; !slices.Equal(lines, want) {
		t.Errorf("lines = %q, want %q", lines, want)
	}
	lines = nil
	for range 10 {
		log(handler, Period, "bad")
	}
	handler.Flush(began.Add(2 * Period))
	handler.Close(began.Add(2 * Period))
	if len(lines) != 5 || lines[4] != "bad left_out=6" {
		t.Errorf("lines = %q, want four records and one count", lines)
	}
}

func TestNumberOfTextsIsBounded(t *testing.T) {
	var lines []string
	logger, handler := New(slog.New(recorder{&lines}))
	for i := range 1000 {
		logger.Warn(fmt.Sprint(i))
	}
	if len(lines) != maxTexts+Burst || len(handler.limiter.texts) != maxTexts+1 {
		t.Errorf("%d lines and %d texts", len(lines), len(handler.limiter.texts))
	}
	logger.Warn("again")
	handler.Close(time.Now())
	if len(lines) != maxTexts+Burst+1 {
		t.Errorf("%d lines, want one more with the count", len(lines))
	}
}
