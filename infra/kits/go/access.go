// Package access admits requests of a net/http server by their access token. The README explains the two modes.
package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// ErrUnreadableState means that the state or the keys cannot be read, so there is no decision. The answer is 503.
var ErrUnreadableState = errors.New("no decision about a token")

// Access is what a token permits. The handler checks the user's room role for CapabilitiesByRoomRole.
type Access struct {
	Identity               string
	Scopes                 []string
	Capabilities           []string
	CapabilitiesByRoomRole []string
	Claims                 map[string]any
}

// Check returns the access of a valid token, nil for any other token, or an error that wraps ErrUnreadableState.
type Check func(ctx context.Context, token string) (*Access, error)

var client = &http.Client{
	Timeout:       5 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// read sends a request, and returns the body of an answer 200.
func read(request *http.Request, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadableState, err)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadableState, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadableState, err)
	}
	return body, nil
}

// Active returns a check that asks the service for each token, so a revocation counts at once. The endpoint has its slash
// at the end. The credential is that of this resource server.
func Active(endpoint, clientID, clientSecret string) Check {
	return func(ctx context.Context, token string) (*Access, error) {
		form := strings.NewReader(url.Values{"token": {token}}.Encode())
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"introspect", form)
		if err == nil {
			request.SetBasicAuth(clientID, clientSecret)
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		body, err := read(request, err)
		if err != nil {
			return nil, err
		}
		var answer struct {
			Active                    bool
			Sub, Scope                string
			Capabilities              []string
			Capabilities_by_room_role []string
		}
		var claims map[string]any
		if err := errors.Join(json.Unmarshal(body, &answer), json.Unmarshal(body, &claims)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreadableState, err)
		}
		if !answer.Active {
			return nil, nil
		}
		scopes := strings.Split(answer.Scope, " ")
		return &Access{answer.Sub, scopes, answer.Capabilities, answer.Capabilities_by_room_role, claims}, nil
	}
}

// Table is the content of capabilities.json: the scopes of each capability.
type Table map[string]struct{ Granted, ByRoomRole []string }

// Offline has the settings of the offline mode.
type Offline struct {
	// Endpoint has its slash at the end. Issuer and ResourceID must not be empty.
	Endpoint, Issuer, ResourceID string
	Table                        Table
	// IsRevoked may refuse the claims of a verified token. After an error, the answer is 503. It may be nil.
	IsRevoked func(ctx context.Context, claims map[string]any) (bool, error)
}

// Check returns a check with the key set, which it fetches once a minute. It sees no revocation by itself.
func (o Offline) Check() (Check, error) {
	if o.Endpoint == "" || o.Issuer == "" || o.ResourceID == "" || len(o.Table) == 0 {
		return nil, errors.New("a setting is empty")
	}
	keys := &keySet{url: o.Endpoint + ".well-known/jwks.json"}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithIssuer(o.Issuer),
		jwt.WithAudience(o.ResourceID), jwt.WithExpirationRequired())
	return func(ctx context.Context, token string) (*Access, error) {
		claims := jwt.MapClaims{}
		_, err := parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return keys.find(ctx, t) })
		if errors.Is(err, ErrUnreadableState) {
			return nil, err
		}
		identity, _ := claims["sub"].(string)
		id, _ := claims["jti"].(string)
		list, _ := claims["acsScope"].(string)
		if err != nil || identity == "" || id == "" || list == "" {
			return nil, nil
		}
		if o.IsRevoked != nil {
			if revoked, err := o.IsRevoked(ctx, claims); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnreadableState, err)
			} else if revoked {
				return nil, nil
			}
		}
		access := &Access{Identity: identity, Scopes: strings.Split(list, ","), Claims: claims}
		has := func(scope string) bool { return slices.Contains(access.Scopes, scope) }
		for name, row := range o.Table {
			if slices.ContainsFunc(row.Granted, has) {
				access.Capabilities = append(access.Capabilities, name)
			} else if slices.ContainsFunc(row.ByRoomRole, has) {
				access.CapabilitiesByRoomRole = append(access.CapabilitiesByRoomRole, name)
			}
		}
		return access, nil
	}, nil
}

// keySet is the fetched key set. A replaced key leaves it within a minute. An unknown key causes at most one fetch a second.
type keySet struct {
	url       string
	mutex     sync.Mutex
	keys      keyfunc.Keyfunc
	fetchedAt time.Time
}

func (k *keySet) find(ctx context.Context, token *jwt.Token) (any, error) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.keys != nil && time.Since(k.fetchedAt) < time.Minute {
		key, err := k.keys.Keyfunc(token)
		if err == nil || time.Since(k.fetchedAt) < time.Second {
			return key, err
		}
	}
	// The fetch serves all requests, so the end of this one does not cancel it.
	body, err := read(http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, k.url, nil))
	if err != nil {
		return nil, err
	}
	keys, err := keyfunc.NewJWKSetJSON(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadableState, err)
	}
	k.keys, k.fetchedAt = keys, time.Now()
	return keys.Keyfunc(token)
}

var bearer = regexp.MustCompile(`^(?i:bearer) +([A-Za-z0-9._~+/-]+=*)$`)

// Requires returns a handler that admits a token with this capability, also if the user's room role decides about it.
func Requires(check Check, capability string, handler func(http.ResponseWriter, *http.Request, *Access)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(status int, name, value string) {
			w.Header().Set(name, value)
			w.WriteHeader(status)
		}
		token := bearer.FindStringSubmatch(r.Header.Get("Authorization"))
		if token == nil {
			refuse(http.StatusUnauthorized, "WWW-Authenticate", "Bearer")
			return
		}
		access, err := check(r.Context(), token[1])
		switch {
		case err != nil:
			refuse(http.StatusServiceUnavailable, "Retry-After", "1")
		case access == nil:
			refuse(http.StatusUnauthorized, "WWW-Authenticate", `Bearer error="invalid_token"`)
		case !slices.Contains(slices.Concat(access.Capabilities, access.CapabilitiesByRoomRole), capability):
			refuse(http.StatusForbidden, "WWW-Authenticate", `Bearer error="insufficient_scope"`)
		default:
			handler(w, r, access)
		}
	})
}
