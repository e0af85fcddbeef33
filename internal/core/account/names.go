package account

import "golang.org/x/text/unicode/norm"

// foldName returns a user name as it is compared: A to Z in lower case, nothing else changed,
// whatever the locale of the machine or of the database. The column users.name_key holds the same.
func foldName(name string) string {
	folded := []byte(name)
	for i, c := range folded {
		if 'A' <= c && c <= 'Z' {
			folded[i] = c + ('a' - 'A')
		}
	}
	return string(folded)
}

// normal returns a password in NFC (Unicode Standard Annex 15): keyboards compose the same
// characters in different ways.
func normal(password string) string { return norm.NFC.String(password) }
