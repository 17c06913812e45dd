// Command minimal-scheduler starts one workload on the first host that joins, stops it, and waits until it is gone.
//
//	go run berth.dev/go/examples/minimal-scheduler nats://127.0.0.1:4222
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

func main() {
	ctx := context.Background()
	conn, err := berth.Connect(ctx, berth.ConnectOptions{Servers: os.Args[1:]})
	check(err)
	defer conn.Close()
	fleet, err := berth.WatchFleet(ctx, conn)
	check(err)
	defer fleet.Close()
	// The first event of a fleet is always HostJoined.
	host := (<-fleet.Events(ctx)).(berth.HostJoined).Host
	fmt.Println(host.Heartbeat.FriendlyName, "joined as", host.ID())

	client, err := fleet.Client(host.ID())
	check(err)
	status, err := client.Start(ctx, "demo-1", &runtimev2.Workload{Name: "demo"})
	check(err)
	fmt.Println("demo-1 is", status.State)
	_, err = client.Stop(ctx, "demo-1")
	check(err)
	for status.State != berth.StateNotFound {
		status, err = client.Status(ctx, "demo-1")
		check(err)
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Println("demo-1 is gone")
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
