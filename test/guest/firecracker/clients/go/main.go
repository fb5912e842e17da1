// Drives a microVM through firecracker-go-sdk: starts it, saves it, and goes on from the snapshot in another process.
//
// Usage: client FIRECRACKER KERNEL FOLDER
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	firecracker "github.com/firecracker-microvm/firecracker-go-sdk"
	"github.com/firecracker-microvm/firecracker-go-sdk/client/models"
	"github.com/sirupsen/logrus"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(program, kernel, folder string) error {
	ctx := context.Background()
	at := func(name string) string { return filepath.Join(folder, name) }
	drives := firecracker.NewDrivesBuilder(at("disk.img")).Build()
	first, err := newMachine(ctx, program, firecracker.Config{
		SocketPath:      at("first.sock"),
		KernelImagePath: kernel,
		KernelArgs:      "loop",
		Drives:          drives,
		VsockDevices:    []firecracker.VsockDevice{{ID: "v", CID: 3, Path: at("first.vsock")}},
		MachineCfg: models.MachineConfiguration{
			VcpuCount:       firecracker.Int64(2),
			MemSizeMib:      firecracker.Int64(64),
			TrackDirtyPages: true,
		},
	})
	if err != nil {
		return err
	}
	if err := first.Start(ctx); err != nil {
		return err
	}
	if err := report(ctx, "first", first); err != nil {
		return err
	}
	metadata := map[string]any{}
	steps := []func() error{
		func() error { return first.SetMetadata(ctx, map[string]string{"k": "v"}) },
		func() error { return first.UpdateMetadata(ctx, map[string]string{"l": "w"}) },
		func() error { return first.GetMetadata(ctx, &metadata) },
		func() error { return first.UpdateGuestDrive(ctx, "root_drive", at("other.img")) },
		func() error { return first.PauseVM(ctx) },
		func() error { return report(ctx, "paused", first) },
		func() error { return first.CreateSnapshot(ctx, at("memory"), at("state")) },
		first.StopVMM,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	fmt.Println("metadata:", metadata["k"], metadata["l"])
	_ = os.Remove(at("first.vsock"))
	return restore(ctx, program, at)
}

func restore(ctx context.Context, program string, at func(string) string) error {
	resume := func(config *firecracker.SnapshotConfig) { config.ResumeVM = true }
	second, err := newMachine(ctx, program, firecracker.Config{SocketPath: at("second.sock")},
		firecracker.WithSnapshot(at("memory"), at("state"), resume))
	if err != nil {
		return err
	}
	if err := second.Start(ctx); err != nil {
		return err
	}
	if err := report(ctx, "restored", second); err != nil {
		return err
	}
	return second.StopVMM()
}

func newMachine(ctx context.Context, program string, config firecracker.Config, opts ...firecracker.Opt) (*firecracker.Machine, error) {
	command := firecracker.VMCommandBuilder{}.WithBin(program).WithSocketPath(config.SocketPath).Build(ctx)
	logger := logrus.New()
	logger.SetLevel(logrus.ErrorLevel)
	opts = append(opts, firecracker.WithProcessRunner(command), firecracker.WithLogger(logrus.NewEntry(logger)))
	return firecracker.NewMachine(ctx, config, opts...)
}

func report(ctx context.Context, name string, machine *firecracker.Machine) error {
	info, err := machine.DescribeInstanceInfo(ctx)
	if err == nil {
		fmt.Printf("%s: %s\n", name, *info.State)
	}
	return err
}
