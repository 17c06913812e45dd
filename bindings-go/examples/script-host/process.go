package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// process is the service of one workload, with all its restarts. It implements berth.Instance.
type process struct {
	command  []string // the interpreter, its arguments, the script
	dir      string   // the working directory, removed at the end
	env      []string
	budget   restartBudget
	reporter *berth.StatusReporter
	cancel   context.CancelFunc
	done     chan struct{}
}

// startProcess starts the script. If startProcess fails, no code of the script has run.
func startProcess(script []byte, service *runtimev2.Service, reporter *berth.StatusReporter) (*process, error) {
	line, _, _ := bytes.Cut(script, []byte("\n"))
	interpreter, isScript := strings.CutPrefix(string(line), "#!")
	command := strings.Fields(interpreter)
	if !isScript || len(command) == 0 {
		return nil, berth.StartErrorf("service: image %q has no #! line", service.Image)
	}
	dir, err := os.MkdirTemp("", "script-host-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "script")
	if err := os.WriteFile(path, script, 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// The host's own environment is not inherited: it may hold secrets.
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	for key, value := range service.GetLocalResources().GetEnvironment() {
		env = append(env, key+"="+value)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		command: append(command, path), dir: dir, env: env, budget: restartBudget{maxRestarts: service.MaxRestarts},
		reporter: reporter, cancel: cancel, done: make(chan struct{}),
	}
	go p.run(ctx)
	return p, nil
}

// Stop kills the process and its children, and waits until they have exited.
func (p *process) Stop(context.Context) {
	p.cancel()
	<-p.done
}

// run runs the script until it succeeds, has no restarts left, or is stopped.
func (p *process) run(ctx context.Context) {
	defer close(p.done)
	defer p.removeDir()
	for {
		began := time.Now()
		err := p.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			p.reporter.Completed("the script succeeded")
			return
		}
		delay, restart := p.budget.next(time.Since(began), rand.Float64())
		if !restart {
			p.reporter.Failed(fmt.Sprintf("failed after all %d restarts: %v", p.budget.maxRestarts, err))
			return
		}
		p.reporter.Starting(fmt.Sprintf("restart %d of %d in %v: %v", p.budget.used, p.budget.maxRestarts, delay, err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
			p.reporter.Running("")
		}
	}
}

// runOnce runs the script once. It kills the whole process group when ctx ends, and when the script has ended.
func (p *process) runOnce(ctx context.Context) error {
	command := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
	command.Dir, command.Env = p.dir, p.env
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	killGroup := func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.Cancel = killGroup
	if err := command.Start(); err != nil {
		return err
	}
	defer func() { _ = killGroup() }() // usually, no process is left
	return command.Wait()
}

func (p *process) removeDir() {
	if err := os.RemoveAll(p.dir); err != nil {
		slog.Warn("cannot remove working directory", "error", err)
	}
}
