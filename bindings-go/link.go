package berth

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// link is how a connection stands.
type link struct {
	connected bool
	// connects grows each time the connection is made again.
	connects uint64
}

// linkInterval is how often a connection is looked at. [nats.Conn.StatusChanged] would be the other way,
// but it drops a listener that is one event behind, and the handlers belong to whoever made the
// connection.
const linkInterval = 100 * time.Millisecond

func linkOf(conn *nats.Conn) link {
	// First the count: a connection that is made in between is then seen at the next look, not missed.
	connects := conn.Stats().Reconnects
	return link{conn.IsConnected(), connects}
}

// waitForLink waits until the link is as wanted. False when ctx ended, or the connection was closed for
// good, before it was.
func waitForLink(ctx context.Context, conn *nats.Conn, wanted func(link) bool) bool {
	ticker := time.NewTicker(linkInterval)
	defer ticker.Stop()
	for {
		if ctx.Err() != nil || conn.IsClosed() {
			return false
		}
		if wanted(linkOf(conn)) {
			return true
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}
