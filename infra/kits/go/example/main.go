// The server of the README. It prints its address.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	access "acs-identity-kit"
)

func main() {
	endpoint := os.Getenv("COMMUNICATION_SERVICES_ENDPOINT")
	check := access.Active(endpoint, os.Getenv("CLIENT_ID"), os.Getenv("CLIENT_SECRET"))
	if os.Getenv("MODE") == "offline" {
		text, err := os.ReadFile("../capabilities.json")
		exit(err)
		var table access.Table
		exit(json.Unmarshal(text, &table))
		revoked := strings.Fields(os.Getenv("REVOKED"))
		check, err = access.Offline{
			Endpoint: endpoint, Issuer: os.Getenv("ISSUER"), ResourceID: os.Getenv("RESOURCE_ID"), Table: table,
			IsRevoked: func(_ context.Context, claims map[string]any) (bool, error) {
				return slices.Contains(revoked, claims["jti"].(string)), nil
			},
		}.Check()
		exit(err)
	}
	answer := func(w http.ResponseWriter, _ *http.Request, a *access.Access) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"identity": a.Identity, "capabilitiesByRoomRole": a.CapabilitiesByRoomRole,
		})
	}
	http.Handle("POST /threads", access.Requires(check, "chat.create_thread", answer))
	http.Handle("POST /messages", access.Requires(check, "chat.send_message", answer))
	http.Handle("POST /room-calls", access.Requires(check, "voip.act_in_room_call", answer))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	exit(err)
	fmt.Printf("http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

func exit(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
