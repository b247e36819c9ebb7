//! Texts: three parts of canonical base64url with a limited length, and only one encoding of each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use identity::jose::TokenTextError;
use identity::token::verify::TokenError;
use serde_json::json;

use super::forge::{Forge, encode, signed_by};

#[tokio::test]
async fn a_token_has_three_parts() {
    for forge in Forge::both().await {
        let [header, payload, signature] = forge.parts();
        let signed = forge.signed();
        let token = &forge.token;
        let unsecured = encode(r#"{"alg":"none"}"#);
        let jwe = encode(r#"{"alg":"dir","enc":"A256GCM"}"#);
        let slow = encode(r#"{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483648,"p2s":"AAAA"}"#);
        let nested = encode(format!("{unsecured}.{payload}."));
        let rows = [
            ("nothing", String::new()),
            ("one part", header.to_owned()),
            ("two parts", signed.to_owned()),
            ("one dot", ".".to_owned()),
            ("three dots", "...".to_owned()),
            ("four dots", "....".to_owned()),
            ("a dot before", format!(".{token}")),
            ("a dot after", format!("{token}.")),
            ("two dots together", format!("{header}..{payload}.{signature}")),
            ("four parts", format!("{token}.{signature}")),
            ("five parts", format!("{header}.{payload}.{signature}.{payload}.{signature}")),
            ("three thousand dots", ".".repeat(3_000)),
            ("an encrypted token", format!("{jwe}..AAAAAAAAAAAAAAAA.{payload}.AAAAAAAAAAAAAAAAAAAAAA")),
            ("an encrypted token around an unsigned one", format!("{jwe}..AAAAAAAAAAAAAAAA.{nested}.AAAA")),
            ("an encrypted token by a slow password", format!("{slow}.AAAA.AAAA.{payload}.AAAA")),
            ("two tokens", format!("{token},{token}")),
            ("commas for dots", token.replace('.', ",")),
            ("full-width dots", token.replace('.', "\u{ff0e}")),
            ("percent-encoded dots", token.replace('.', "%2E")),
            ("only spaces", "  ".to_owned()),
            ("only a line break", "\r\n".to_owned()),
        ];
        forge.refuse(TokenError::Structure, rows).await;
        for (fault, rows) in [
            (
                TokenTextError::WhiteSpace,
                [
                    ("two tokens and a space", format!("{token} {token}")),
                    ("a header line", format!("{token}\r\nAuthorization: Bearer {token}")),
                ],
            ),
            (
                TokenTextError::Scheme,
                [
                    ("with its scheme", format!("Bearer {token}")),
                    ("with its scheme and a tab", format!("\nBEARER\t{token}\n")),
                ],
            ),
            (
                TokenTextError::Quotes,
                [("in quotes", format!("\"{token}\"")), ("in single quotes", format!(" '{token}' "))],
            ),
        ] {
            forge.refuse(TokenError::Text(fault), rows).await;
        }
        let rows = [
            ("two dots", "..".to_owned()),
            ("an empty header", format!(".{payload}.{signature}")),
            ("header and payload swapped", signed_by(forge.key(), &format!("{payload}.{header}"))),
            ("signature and header swapped", format!("{signature}.{payload}.{header}")),
            ("unsecured", format!("{unsecured}.{payload}.")),
        ];
        forge.refuse(TokenError::Header, rows).await;
        let rows = [
            ("an empty payload", format!("{header}..{signature}")),
            ("payload and signature swapped", format!("{header}.{signature}.{payload}")),
            ("the header for a payload", signed_by(forge.key(), &format!("{header}.{header}"))),
            ("a token in the token", forge.compact(forge.header.to_string(), &forge.token)),
        ];
        forge.refuse(TokenError::Claims, rows).await;
        forge.refuse(TokenError::Signature, [("an empty signature", format!("{signed}."))]).await;
    }
}

#[tokio::test]
async fn json_serializations_are_refused() {
    for forge in Forge::both().await {
        let [header, payload, signature] = forge.parts();
        let flattened = json!({"payload": payload, "protected": header, "signature": signature});
        let general =
            json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]});
        let rows = [
            ("flattened", flattened.to_string()),
            ("general", general.to_string()),
            ("flattened, with a header of its own", {
                let mut flattened = flattened.clone();
                flattened["header"] = json!({"kid": forge.key().id().as_str()});
                flattened.to_string()
            }),
            ("an array of parts", json!(forge.parts()).to_string()),
            (
                "dots in the right places",
                format!(
                    r#"{{"protected":"{header}.{payload}.{signature}","payload":"{payload}","signature":"{signature}"}}"#
                ),
            ),
            ("a token that reads as both", format!(r#"{header}.{payload}.{signature}","x":"{{}}"#)),
        ];
        forge.refuse(TokenError::Structure, rows).await;
        let string = [("a string", json!(forge.token).to_string())];
        forge.refuse(TokenError::Text(TokenTextError::Quotes), string).await;
    }
}

#[tokio::test]
async fn a_token_has_at_most_4096_bytes() {
    for forge in Forge::both().await {
        let sizes: Vec<_> = [4_096, 4_097, 8_193, 1 << 16, 1 << 20, 10 << 20]
            .into_iter()
            .map(|size| (size, of_length(&forge, size)))
            .collect();
        forge.accept("the longest", &sizes[0].1).await;
        forge.refuse(TokenError::Structure, sizes[1..].to_vec()).await;

        let [header, payload, signature] = forge.parts();
        let junk = "A".repeat(10 << 20);
        let rows = [
            ("no dot", junk.clone()),
            ("dots alone", ".".repeat(10 << 20)),
            ("a long header", format!("{junk}.{payload}.{signature}")),
            ("a long payload", format!("{header}.{junk}.{signature}")),
            ("a long signature", format!("{header}.{payload}.{junk}")),
            ("many bytes a letter", "\u{1f511}".repeat(1 << 20)),
        ];
        forge.refuse(TokenError::Structure, rows).await;
    }
}

/// The valid token, extended to this length with white space after its header and its claims.
fn of_length(forge: &Forge, length: usize) -> String {
    let encoded = |bytes: usize| (bytes * 4).div_ceil(3);
    let (header, claims) = (forge.header.to_string(), forge.claims.to_string());
    let rest = length - 2 - forge.parts()[2].len();
    let found = (0..3).find_map(|spaces| {
        let left = rest - encoded(header.len() + spaces);
        (left % 4 != 1).then(|| (spaces, left * 3 / 4 - claims.len()))
    });
    let (before, after) = found.unwrap();
    let token = forge.compact(header + &" ".repeat(before), claims + &" ".repeat(after));
    assert_eq!(token.len(), length);
    token
}

#[tokio::test]
async fn junk_in_a_part_is_refused() {
    const JUNK: [&str; 16] = [
        "=", "==", "===", "+", "/", "\0", "%3D", "%20", "?", "*", ":", "~", "\u{e4}", "\u{200b}", "\u{ff21}",
        "\u{feff}",
    ];
    for forge in Forge::both().await {
        let mut rows = Vec::new();
        for (index, part) in forge.parts().into_iter().enumerate() {
            for junk in JUNK {
                for (place, at) in [("before", 0), ("inside", 4), ("after", part.len())] {
                    let text = format!("{}{junk}{}", &part[..at], &part[at..]);
                    rows.push((format!("{junk:?} {place} part {index}"), forge.with_part(index, &text)));
                }
            }
            let padding = "=".repeat((4 - part.len() % 4) % 4);
            rows.push((format!("part {index} padded"), forge.with_part(index, &format!("{part}{padding}="))));
            let odd = "A".repeat((5 - part.len() % 4) % 4);
            rows.push((
                format!("part {index}, a letter of no byte"),
                forge.with_part(index, &format!("{part}{odd}")),
            ));
        }
        forge.refuse(TokenError::Structure, rows).await;
    }
}

/// No JWT has white space. It is dropped at the ends of a token, and refused inside.
#[tokio::test]
async fn white_space_is_dropped_only_at_the_ends() {
    const SPACES: [&str; 7] = [" ", "\t", "\n", "\r\n", " \t\n\r ", "\u{a0}", "\u{2028}"];
    for forge in Forge::both().await {
        let token = &forge.token;
        let mut rows = Vec::new();
        for space in SPACES {
            for text in
                [format!("{space}{token}"), format!("{token}{space}"), format!("{space}{token}{space}")]
            {
                forge.accept("white space at an end", &text).await;
            }
            for (index, part) in forge.parts().into_iter().enumerate() {
                let places =
                    [("before", 0, index > 0), ("inside", 4, true), ("after", part.len(), index < 2)];
                for (place, at, is_inside) in places {
                    if is_inside {
                        let text = forge.with_part(index, &format!("{}{space}{}", &part[..at], &part[at..]));
                        rows.push((format!("{space:?} {place} part {index}"), text));
                    }
                }
            }
        }
        for (index, part) in forge.parts().into_iter().enumerate() {
            let lines = part.as_bytes().chunks(32).map(|line| str::from_utf8(line).unwrap());
            let lines = lines.collect::<Vec<_>>().join("\n");
            rows.push((format!("part {index} in lines"), forge.with_part(index, &lines)));
        }
        forge.refuse(TokenError::Text(TokenTextError::WhiteSpace), rows).await;
    }
}

#[tokio::test]
async fn the_standard_base64_alphabet_is_refused() {
    for forge in Forge::both().await {
        let odd = forge.claims.with("jti", r#""???>>>~~~\u007f""#).to_string();
        let odd = odd.replace("\\u007f", "\u{7f}??>~");
        let header = forge.header.to_string();
        let valid = forge.compact(&header, &odd);
        forge.refuse(TokenError::Claims, [("a payload of both signs", valid)]).await;
        let standard = format!("{}.{}", encode(&header), STANDARD_NO_PAD.encode(&odd));
        assert!(standard.contains(['+', '/']));
        let mut rows = vec![("payload", signed_by(forge.key(), &standard))];
        let mut tokens = (0..).map(|n| forge.claims(forge.claims.with("jti", format!("\"{n:032x}\""))));
        let token = tokens.find(|token| token.rsplit_once('.').unwrap().1.contains(['-', '_'])).unwrap();
        forge.accept("a signature of either sign", &token).await;
        rows.push(("signature", token.replace('-', "+").replace('_', "/")));
        forge.refuse(TokenError::Structure, rows).await;
    }
}

/// The spare bits in the last character of a part must be zero. Otherwise a token would have several encodings.
#[tokio::test]
async fn a_part_has_one_encoding() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for forge in Forge::both().await {
        let header = forge.header.to_string();
        let claims = forge.claims.to_string();
        let mut rows = Vec::new();
        for spaces in 0..3 {
            let parts = [
                encode(format!("{header}{}", " ".repeat(spaces))),
                encode(format!("{claims}{}", " ".repeat(spaces))),
                forge.parts()[2].to_owned(),
            ];
            for (index, part) in parts.iter().enumerate() {
                let spare_bits = [0, 0, 4, 2][part.len() % 4];
                let (rest, last) = part.split_at(part.len() - 1);
                let value = ALPHABET.iter().position(|letter| *letter == last.as_bytes()[0]).unwrap();
                forge.accept("its only encoding", &forge.with_part(index, part)).await;
                for spare in 1..1_usize << spare_bits {
                    let other = char::from(ALPHABET[value | spare]);
                    let text = format!("{rest}{other}");
                    rows.push((
                        format!("part {index} ending in {other} for {last}"),
                        forge.with_part(index, &text),
                    ));
                }
            }
        }
        assert_eq!(
            rows.len(),
            15 + 3 + 15 + 3 + 3 * 15,
            "four spare bits, two, and always four of the signature"
        );
        forge.refuse(TokenError::Structure, rows).await;
    }
}

#[tokio::test]
async fn json_is_utf_8_without_a_byte_order_mark() {
    let other_bytes = |text: &str, from: &[u8], to: &[u8]| {
        let at = text.as_bytes().windows(from.len()).position(|window| window == from).unwrap();
        [&text.as_bytes()[..at], to, &text.as_bytes()[at + from.len()..]].concat()
    };
    let utf_16 =
        |text: &str, to_bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to_bytes).collect::<Vec<_>>();
    let encodings = |text: &str, letter: &[u8], word: &[u8]| {
        vec![
            ("a byte order mark", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
            ("UTF-16, little end first", utf_16(text, u16::to_le_bytes)),
            ("UTF-16, big end first", utf_16(text, u16::to_be_bytes)),
            ("UTF-16 with a mark", [b"\xff\xfe".as_slice(), &utf_16(text, u16::to_le_bytes)].concat()),
            ("UTF-32", text.chars().flat_map(|letter| u32::from(letter).to_le_bytes()).collect()),
            ("a quote in two bytes", other_bytes(text, b"\"", b"\xc0\xa2")),
            ("a letter in two bytes", other_bytes(text, letter, b"\xc1\x94")),
            ("a letter in three bytes", other_bytes(text, letter, b"\xe0\x81\x94")),
            ("Latin-1", other_bytes(text, letter, b"\xe4")),
            ("half a letter", other_bytes(text, letter, b"\xe2\x82")),
            ("a surrogate in three bytes", other_bytes(text, word, b"\xed\xa0\x80")),
            ("beyond Unicode", other_bytes(text, word, b"\xf4\x90\x80\x80")),
            ("the first half of a pair", other_bytes(text, word, b"\\ud83d")),
            ("the second half of a pair", other_bytes(text, word, b"\\udd11")),
            ("a pair in the wrong order", other_bytes(text, word, b"\\udd11\\ud83d")),
            ("half an escape", other_bytes(text, word, b"\\u00")),
            ("an escape JSON has not", other_bytes(text, word, b"\\x41")),
            ("a line break in a string", other_bytes(text, word, b"\n")),
            ("NUL in a string", other_bytes(text, word, b"\0")),
        ]
    };
    for forge in Forge::both().await {
        let (header, claims) = (forge.header.to_string(), forge.claims.to_string());
        let headers = encodings(&header, b"T", b"JWT");
        let rows = headers.into_iter().map(|(name, bytes)| (name, forge.compact(bytes, &claims)));
        forge.refuse(TokenError::Header, rows.collect::<Vec<_>>()).await;
        let claims = forge.claims.with("jti", r#""T-word""#).to_string();
        let payloads = encodings(&claims, b"T", b"word");
        let rows = payloads.into_iter().map(|(name, bytes)| (name, forge.compact(&header, bytes)));
        forge.refuse(TokenError::Claims, rows.collect::<Vec<_>>()).await;
    }
}
