// Command spread-scheduler is an example of a scheduler: it spreads the workloads that it finds in a directory
// over all hosts, and starts them elsewhere when a host dies. It claims the profiles scheduler, replicas and
// continuity of the conformance suite.
//
//	go run berth.dev/go/examples/spread-scheduler --nats-url nats://127.0.0.1:4222 --manifests ./apps
//
// Read it in this order: scheduler.go decides who keeps what, keeper.go is the life of one workload,
// ledger.go is what must not be forgotten, manifest.go and status.go are the two faces of the directory.
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
	natsURL := flag.String("nats-url", berth.DefaultServer, "the broker")
	credentials := flag.String("nats-creds", "", "a `file` of NATS credentials")
	manifests := flag.String("manifests", ".", "the `directory` of manifests, in JSON")
	silence := flag.Duration("silence", 35*time.Second, "how long a host that stays connected may say nothing")
	flag.Parse()
	if err := run(*natsURL, *credentials, *manifests, *silence); err != nil {
		slog.Error("the scheduler cannot go on", "error", err)
		os.Exit(1)
	}
}

func run(natsURL, credentials, manifests string, silence time.Duration) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	// Two on one directory would start everything twice. The second waits here until the first has ended.
	unlock, err := lock(ctx, filepath.Join(manifests, ".berth", "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	conn, err := berth.ConnectEventually(berth.ConnectOptions{
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
	ledger, err := openLedger(filepath.Join(manifests, ".berth", "ledger"))
	if err != nil {
		return err
	}
	newScheduler(fleet, ledger, manifests, silence).run(ctx)
	return nil
}
