package api

import (
	"slices"
	"time"

	"github.com/obscura-relay/obscura/internal/limit"
)

// Per is what a limit counts by.
type Per string

// The things that are counted by. An IPv6 address stands for its /64.
const (
	PerAddress Per = "client address"
	PerUser    Per = "user"
	PerDevice  Per = "device"
	PerTarget  Per = "calling user and target user"
	// Those of requests that show a delivery token.
	PerToken        Per = "delivery token"
	PerTokenAddress Per = "client address, with a delivery token"
)

// Limit is a row of the table of rate limits.
type Limit struct {
	// Name is what an operator changes it by.
	Name    string
	Default limit.Rate
	Per     Per
	// What is counted, in words.
	What string
	// Operations are those of the contract that count, by their ids.
	Operations []string
}

// credentialsLimit is the limit that counts requests by how they end, and not by their operation.
const credentialsLimit = "credentials"

// sealedSends is the operation whose body shows delivery tokens.
const sealedSends = "sendSealedMessages"

// LimitTable states every rate limit. An operation counts against each row that names it, and the
// server does not start with an operation that no row names. The table in the README is written
// from this one.
var LimitTable = []Limit{
	{"register", limit.Rate{Events: 60, Per: time.Minute}, PerAddress, "registrations", []string{"createUser"}},
	{"log-in", limit.Rate{Events: 60, Per: time.Minute}, PerAddress, "log-ins", []string{"createSession"}},
	{"refresh", limit.Rate{Events: 120, Per: time.Minute}, PerAddress, "token refreshes", []string{"refreshSession"}},
	{credentialsLimit, limit.Rate{Events: 1200, Per: time.Minute}, PerAddress,
		"requests with a token or ticket that is not valid", nil},
	{"documents", limit.Rate{Events: 600, Per: time.Minute}, PerAddress,
		"fetches of the contract, the API reference, the page at /, the trust root and who may register",
		[]string{"getStart", "getContract", "getContractJSON", "getFrames", "getDocs", "getDocsFile", "getTrustRoot",
			"getInfo"}},
	{"password", limit.Rate{Events: 10, Per: time.Minute}, PerUser, "password changes and account deletions",
		[]string{"changePassword", "deleteAccount"}},
	{"exports", limit.Rate{Events: 10, Per: time.Minute}, PerUser, "exports of the account", []string{"getAccount"}},
	{"devices", limit.Rate{Events: 120, Per: time.Minute}, PerUser,
		"log-outs, and requests that list, read, name or remove devices",
		[]string{"deleteSession", "listDevices", "getDevice", "updateDevice", "deleteDevice"}},
	{"keys", limit.Rate{Events: 60, Per: time.Minute}, PerUser, "key uploads and device registrations",
		[]string{"createDevice", "uploadKeys"}},
	{"inventories", limit.Rate{Events: 60, Per: time.Minute}, PerDevice, "key inventories",
		[]string{"getKeyInventory"}},
	{"bundles", limit.Rate{Events: 30, Per: 10 * time.Minute}, PerTarget, "bundle fetches",
		[]string{"getPreKeyBundles"}},
	{"lookups", limit.Rate{Events: 3000, Per: 10 * time.Minute}, PerUser,
		"bundle fetches, whoever the target", []string{"getPreKeyBundles"}},
	{"device-lists", limit.Rate{Events: 600, Per: 10 * time.Minute}, PerUser, "lists of another user's devices",
		[]string{"listDevicesOfUser"}},
	{"sends", limit.Rate{Events: 3000, Per: time.Minute}, PerDevice,
		"requests to send, once more for each further hundred of submissions", []string{"sendMessages"}},
	{"daily-sends", limit.Rate{Events: 200_000, Per: 24 * time.Hour}, PerUser,
		"requests to send, each of which leaves a receipt", []string{"sendMessages"}},
	{"tickets", limit.Rate{Events: 60, Per: time.Minute}, PerDevice, "gateway tickets, and upgrades by token",
		[]string{"createGatewayTicket", "connectGateway"}},
	{"uploads", limit.Rate{Events: 120, Per: time.Minute}, PerDevice, "uploads of attachments and backups",
		[]string{"uploadAttachment", "uploadBackup"}},
	{"downloads", limit.Rate{Events: 600, Per: time.Minute}, PerDevice, "downloads of attachments and backups",
		[]string{"downloadAttachment", "downloadBackup", "headBackup"}},
	{"push-tokens", limit.Rate{Events: 30, Per: time.Minute}, PerDevice, "requests about push tokens",
		[]string{"setPushToken", "deletePushToken", "getVapidKey"}},
	{"delivery-tokens", limit.Rate{Events: 60, Per: time.Minute}, PerUser, "requests about delivery tokens",
		[]string{"listDeliveryTokens", "changeDeliveryTokens"}},
	{"sealed-sends", limit.Rate{Events: 3000, Per: time.Minute}, PerAddress,
		"sealed requests to send, once more for each further hundred of submissions", []string{sealedSends}},
	{"token-sends", limit.Rate{Events: 3000, Per: time.Minute}, PerToken,
		"sealed requests to send, once more for each further hundred of submissions", []string{sealedSends}},
	{"daily-token-sends", limit.Rate{Events: 200_000, Per: 24 * time.Hour}, PerToken,
		"sealed requests to send, stored or not", []string{sealedSends}},
	{"token-bundles", limit.Rate{Events: 120, Per: 10 * time.Minute}, PerToken, "bundle fetches",
		[]string{"getPreKeyBundles"}},
	{"token-device-lists", limit.Rate{Events: 600, Per: 10 * time.Minute}, PerToken, "lists of a user's devices",
		[]string{"listDevicesOfUser"}},
	{"sealed-lookups", limit.Rate{Events: 3000, Per: 10 * time.Minute}, PerTokenAddress,
		"bundle fetches and lists of a user's devices, whoever the target",
		[]string{"getPreKeyBundles", "listDevicesOfUser"}},
	{"certificates", limit.Rate{Events: 60, Per: time.Minute}, PerDevice, "sender certificates",
		[]string{"getSenderCertificate"}},
}

// isLimited reports whether a row of the table names an operation.
func isLimited(operation string) bool {
	return slices.ContainsFunc(LimitTable, func(row Limit) bool { return slices.Contains(row.Operations, operation) })
}
