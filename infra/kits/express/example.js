// The server of the README. It prints its address.

import express from "express";

import { active, offline, requires } from "./access.js";

const { MODE, COMMUNICATION_SERVICES_ENDPOINT: endpoint, CLIENT_ID, CLIENT_SECRET, ISSUER, RESOURCE_ID } = process.env;
const revoked = (process.env.REVOKED ?? "").split(" ");
const check =
  MODE === "offline"
    ? offline({ endpoint, issuer: ISSUER, resourceId: RESOURCE_ID, isRevoked: ({ jti }) => revoked.includes(jti) })
    : active({ endpoint, clientId: CLIENT_ID, clientSecret: CLIENT_SECRET });

const app = express();
const answer = ({ access }, response) =>
  response.json({ identity: access.identity, capabilitiesByRoomRole: access.capabilitiesByRoomRole });
app.post("/threads", requires(check, "chat.create_thread"), answer);
app.post("/messages", requires(check, "chat.send_message"), answer);
app.post("/room-calls", requires(check, "voip.act_in_room_call"), answer);
const server = app.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
