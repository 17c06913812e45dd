// Command spread-scheduler is an example scheduler. It reads manifests from a directory, spreads their workloads
// over all hosts, and restarts them elsewhere when a host is lost. It claims the profiles scheduler, replicas and
// continuity of the conformance suite.
//
//	go run berth.dev/go/examples/spread-scheduler --nats-url nats://127.0.0.1:4222 --manifests ./apps
//
// Suggested reading order: scheduler.go decides which replicas run, replica_runner.go runs one replica,
// state_files.go stores the state that must survive a restart, manifest.go is the input and status.go the output.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	berth "berth.dev/go"
)

func main() {
	natsURL := flag.String("nats-url", berth.DefaultServer, "NATS server `URL`")
	credentials := flag.String("nats-creds", "", "NATS credentials `file`")
	manifests := flag.String("manifests", ".", "`directory` of JSON manifests")
	silence := flag.Duration("silence", 35*time.Second, "silence after which a connected host is lost")
	flag.Parse()
	if err := run(*natsURL, *credentials, *manifests, *silence); err != nil {
		slog.Error("scheduler failed", "error", err)
		os.Exit(1)
	}
}

func run(natsURL, credentials, manifests string, silence time.Duration) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	// Two schedulers on one directory would start everything twice, so the second waits until the first has ended.
	unlock, err := lock(ctx, filepath.Join(manifests, ".berth", "lock"))
	if ctx.Err() != nil {
		return nil // ended by a signal while it waited
	}
	if err != nil {
		return err
	}
	defer unlock()
	conn, err := berth.ConnectWithRetry(berth.ConnectOptions{
		Servers: []string{natsURL}, CredentialsFile: credentials, Name: "spread-scheduler",
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	fleet, err := berth.WatchFleet(ctx, conn, berth.WithLiveness(berth.LivenessOptions{LostAfter: silence}))
	if err != nil {
		return err
	}
	defer fleet.Close()
	state, err := openStateFiles(filepath.Join(manifests, ".berth", "state"))
	if err != nil {
		return err
	}
	newScheduler(fleet, state, manifests, silence).run(ctx)
	return nil
}
