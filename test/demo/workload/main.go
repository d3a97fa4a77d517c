// Command workload is the program that the demo has run under the gate.
package main

import "fmt"

func main() { fmt.Println("reconciled 42 accounts") }
