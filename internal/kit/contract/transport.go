package contract

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// Transport holds every answer that comes through it against the contract.
type Transport struct {
	Next http.RoundTripper
	// Report is told what is wrong, possibly by several goroutines at once.
	Report func(sentence string)
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.Next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	var body []byte
	if response.StatusCode != http.StatusSwitchingProtocols {
		body, err = io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			return nil, err
		}
		response.Body = io.NopCloser(bytes.NewReader(body))
	}
	for _, sentence := range Check(request, response, body) {
		t.Report(sentence)
	}
	return response, nil
}

// Front is a reverse proxy before a relay, for clients that cannot be given a Transport.
func Front(relay *url.URL, transport *Transport) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(relay); r.Out.Host = r.In.Host },
		Transport: transport,
	}
}
