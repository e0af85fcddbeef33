package e2e

import (
	"os"
	"strconv"
	"sync"
)

// Together runs functions at the same instant and waits for them.
func Together(n int, do func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	wg.Wait()
}

// FromEnvironment reads a number out of a variable.
func FromEnvironment(name string, otherwise int64) int64 {
	if n, err := strconv.ParseInt(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}
