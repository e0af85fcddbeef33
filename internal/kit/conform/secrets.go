package conform

import (
	"encoding/json"
	"strings"
)

// keepSecret remembers something that no reason may hold.
func (k *kit) keepSecret(secret string) {
	if secret == "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.secrets = append(k.secrets, secret)
}

// keepSecrets remembers the tokens and tickets of an answer.
func (k *kit) keepSecrets(body []byte) {
	var a struct{ Token, RefreshToken, Ticket string }
	if json.Unmarshal(body, &a) != nil {
		return
	}
	k.keepSecret(a.Token)
	k.keepSecret(a.RefreshToken)
	k.keepSecret(a.Ticket)
}

// blot takes secrets out of a text: a relay under test may put anything anywhere.
func (k *kit) blot(text string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, secret := range k.secrets {
		text = strings.ReplaceAll(text, secret, "…")
	}
	return text
}
