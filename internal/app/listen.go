package app

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listeners are the two ports. They are taken before anything is made or waited for.
type listeners struct {
	api, management net.Listener
}

func listen(cfg Config) (l listeners, err error) {
	if l.api, err = listenOn("the API", "--listen (OBSCURA_LISTEN)", cfg.Listen); err != nil {
		return l, err
	}
	l.management, err = listenOn("management", "--management-listen (OBSCURA_MANAGEMENT_LISTEN)", cfg.ManagementListen)
	if err != nil {
		return l, errors.Join(err, l.api.Close())
	}
	return l, nil
}

// listenOn says which setting to change when it cannot listen.
func listenOn(purpose, setting, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	host, port, _ := net.SplitHostPort(address)
	var why string
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		why = "another program listens there"
		if port == "9090" {
			why += ", perhaps Prometheus, whose own default it is"
		}
	case errors.Is(err, syscall.EACCES):
		why = "this user may not listen on a port below 1024"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		why = "this machine does not have the address " + host
	case errors.As(err, &dns):
		why = "the host name " + host + " is not known"
	default:
		why = "it is not an address with a port from 0 to 65535"
	}
	return nil, fmt.Errorf("cannot listen for %s on %s: %s: choose another address with %s", purpose, address, why,
		setting)
}

// close is for a start that failed; who serves a listener has closed it.
func (l listeners) close() { _, _ = l.api.Close(), l.management.Close() }
