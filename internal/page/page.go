// Package page embeds the API reference, a page of ours around Swagger UI, which make page takes
// from npm; and the page at the relay's address, which leads there.
//
// Invariants: the pages load nothing from anywhere else and hold no inline script or style, so that
// Policy may forbid both; what they load is in Files. It is data: nothing in it can fail.
package page

import (
	_ "embed"
	"html"
	"strings"
)

//go:embed start.html
var start string

// Start is the page at the relay's address.
func Start(version string) []byte {
	return []byte(strings.ReplaceAll(start, "VERSION", html.EscapeString(version)))
}

// HTML is the API reference.
//
//go:embed index.html
var HTML []byte

// Policy is the pages' Content-Security-Policy: scripts and requests to the relay alone, nothing
// inline, no eval, not in a frame. Pictures may also be in the style sheet itself (data:).
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// File is what the API reference loads.
type File struct {
	// Media is the Content-Type.
	Media string
	// Data is the content, compressed with gzip when Packed.
	Data   []byte
	Packed bool
}

// Files are what the API reference loads from /docs/, by their names.
var Files = map[string]File{
	"page.js":                          {Media: script, Data: pageScript},
	"page.css":                         {Media: style, Data: pageStyle},
	"swagger-ui-bundle.js":             {Media: script, Data: swaggerScript, Packed: true},
	"swagger-ui.css":                   {Media: style, Data: swaggerStyle, Packed: true},
	"swagger-ui-bundle.js.LICENSE.txt": {Media: text, Data: swaggerLicences},
	"swagger-ui-bundle.js.NOTICE.txt":  {Media: text, Data: swaggerNotice},
}

const (
	script = "text/javascript; charset=utf-8"
	style  = "text/css; charset=utf-8"
	text   = "text/plain; charset=utf-8"
)

//go:embed page.js
var pageScript []byte

//go:embed page.css
var pageStyle []byte

//go:embed swagger-ui-bundle.js.gz
var swaggerScript []byte

//go:embed swagger-ui.css.gz
var swaggerStyle []byte

// What the licences of Swagger UI, and of what is in it, ask to go along with it.
var (
	//go:embed swagger-ui-bundle.js.LICENSE.txt
	swaggerLicences []byte
	//go:embed swagger-ui-bundle.js.NOTICE.txt
	swaggerNotice []byte
)
