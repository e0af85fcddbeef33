// Package certificate makes sender certificates: what a device shows inside a sealed message, so
// that libsignal on the other side knows who wrote it. The trust root, which clients pin, signs a
// server key, and the server key signs the certificate.
package certificate
