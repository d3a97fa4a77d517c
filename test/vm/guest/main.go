// Command guest is the first program (/init) of a virtual machine: it mounts what a Linux system needs, brings the network
// up if there is one, and does what the test asks over the second serial port, with the project's own packages. It never
// ends by itself: when it cannot go on it switches the machine off.
package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	err := serve()
	fmt.Fprintf(os.Stderr, "guest: %v\n", err)
	syscall.Sync()
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

func serve() error {
	if err := mountAll(); err != nil {
		return err
	}
	if err := startNetwork(); err != nil {
		return err
	}
	port, err := openSerial("/dev/ttyS1")
	if err != nil {
		return err
	}
	defer port.Close()
	return answer(port)
}
