// The server of the README. It prints its address.

import express from "express";

import { active, offline, requires } from "./access.js";
import { Watcher } from "./watcher.js";

const { MODE, COMMUNICATION_SERVICES_ENDPOINT: endpoint, CLIENT_ID, CLIENT_SECRET, ISSUER, RESOURCE_ID } = process.env;
const revoked = (process.env.REVOKED ?? "").split(" ");
const credential = { endpoint, clientId: CLIENT_ID, clientSecret: CLIENT_SECRET };
const watcher = MODE === "watched" ? new Watcher(credential) : null;
watcher?.start();
const isRevoked = watcher?.isRevoked ?? (({ jti }) => revoked.includes(jti));
const check =
  MODE === "active" ? active(credential) : offline({ endpoint, issuer: ISSUER, resourceId: RESOURCE_ID, isRevoked });

const app = express();
const answer = ({ access }, response) =>
  response.json({ identity: access.identity, capabilitiesByRoomRole: access.capabilitiesByRoomRole });
app.post("/threads", requires(check, "chat.create_thread"), answer);
app.post("/messages", requires(check, "chat.send_message"), answer);
app.post("/room-calls", requires(check, "voip.act_in_room_call"), answer);
// A connection that stays open while its token is good.
app.post("/events", requires(check, "chat.send_message"), ({ access }, response) => {
  response.write("open\n");
  response.on("close", watcher.watch(access, () => response.end()));
});
const server = app.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
