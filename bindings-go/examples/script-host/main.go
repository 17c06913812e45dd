// Command script-host is an example host without WebAssembly: its images are scripts, and its services are
// processes. It pulls, runs, restarts and stops them, and passes the profiles core, services and resilience of the
// conformance suite.
//
//	go run berth.dev/go/examples/script-host --nats-url nats://127.0.0.1:4222
//
// It is an example, not for production: scripts run without a sandbox, with all permissions of the host process.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	berth "berth.dev/go"
)

func main() {
	natsURL := flag.String("nats-url", berth.DefaultServer, "NATS server `URL`")
	credentials := flag.String("nats-creds", "", "NATS credentials `file`")
	insecure := flag.String("insecure-registry", "", "comma-separated registry `hosts` to access over plain HTTP")
	flag.Parse()
	if err := run(*natsURL, *credentials, strings.Split(*insecure, ",")); err != nil {
		slog.Error("cannot serve host", "error", err)
		os.Exit(1)
	}
}

func run(natsURL, credentials string, insecure []string) error {
	// SIGTERM and SIGINT end ctx: Serve then shuts down gracefully.
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	conn, err := berth.ConnectWithRetry(berth.ConnectOptions{
		Servers: []string{natsURL}, CredentialsFile: credentials, Name: "script-host",
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	host, err := newHost(insecure)
	if err != nil {
		return err
	}
	return berth.Serve(ctx, conn, host)
}
