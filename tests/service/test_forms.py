"""Forms as tools, libraries and people write them; over HTTP, byte for byte."""

from __future__ import annotations

import base64
import email.mime.base
import email.mime.multipart
import email.mime.text
import encodings
import gzip
import quopri
import urllib.parse
from collections.abc import Iterator

import httpx
import pytest

from tests.service.conftest import RunningServer, fake_runtime, running

LABELS = '["a café", "a dog"]'
DISPOSITION = b"Content-Disposition: form-data; "


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(fake_runtime(), max_labels=200) as started:
        yield started


@pytest.fixture(scope="module")
def video_id(server: RunningServer, clip: bytes) -> str:
    answer: str = server.classify(clip, labels=["x"]).json()["video_id"]
    return answer


def part(headers: bytes, content: bytes) -> bytes:
    return headers + b"\r\n\r\n" + content


def body_of(*parts: bytes, before: bytes = b"", after: bytes = b"", padding: bytes = b"") -> bytes:
    lines = b"".join(b"--b" + padding + b"\r\n" + content + b"\r\n" for content in parts)
    return before + lines + b"--b--" + after


def post(server: RunningServer, body: bytes, **headers: str) -> httpx.Response:
    kind = headers.pop("content_type", "multipart/form-data; boundary=b")
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.client.post("/classify", content=body, headers={"Content-Type": kind, **sent})


def labels_of(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {prediction["label"] for prediction in answer.json()["predictions"]}


def video(clip: bytes) -> bytes:
    return part(DISPOSITION + b'name="video"; filename="c.mp4"\r\nContent-Type: video/mp4', clip)


def labels(headers: bytes = b"", content: bytes = LABELS.encode()) -> bytes:
    return part(DISPOSITION + b'name="labels"' + headers, content)


WELL_FORMED = {
    "as it should be": lambda clip: body_of(video(clip), labels()),
    "text with a file name": lambda clip: body_of(
        video(clip), labels(b'; filename="labels"\r\nContent-Type: application/octet-stream')
    ),
    "text with an empty file name": lambda clip: body_of(video(clip), labels(b'; filename=""')),
    "preamble": lambda clip: body_of(
        video(clip), labels(), before=b"This is a multi-part message in MIME format.\r\n"
    ),
    "preamble with what looks like a boundary": lambda clip: body_of(
        video(clip), labels(), before=b"see --b and\r\n--bc\r\n"
    ),
    "empty lines before": lambda clip: body_of(video(clip), labels(), before=b"\r\n\r\n"),
    "epilogue": lambda clip: body_of(video(clip), labels(), after=b"\r\nThe end.\r\n--b\r\n"),
    "blanks after the boundaries": lambda clip: body_of(
        video(clip), labels(), padding=b" \t ", after=b"  \r\n"
    ),
    "many part headers": lambda clip: body_of(
        video(clip), labels(b"".join(b"\r\nX-Header-%d: y" % i for i in range(25)))
    ),
    "quoted name, spaces": lambda clip: body_of(
        video(clip), part(b'content-disposition:  Form-Data ;  name=labels ', LABELS.encode())
    ),
    "base64": lambda clip: body_of(
        part(
            DISPOSITION + b'name="video"; filename="c"\r\nContent-Transfer-Encoding: Base64',
            base64.encodebytes(clip).replace(b"\n", b"\r\n"),
        ),
        labels(b"\r\nContent-Transfer-Encoding: base64", base64.b64encode(LABELS.encode())),
    ),
    "quoted-printable": lambda clip: body_of(
        video(clip),
        labels(
            b"\r\nContent-Transfer-Encoding: quoted-printable",
            quopri.encodestring(LABELS.encode() + b" " * 100).replace(b"\n", b"\r\n"),
        ),
    ),
    "7bit and 8bit": lambda clip: body_of(
        part(DISPOSITION + b'name="video"; filename="c"\r\nContent-Transfer-Encoding: 7bit', clip),
        labels(b"\r\nContent-Transfer-Encoding: 8bit"),
    ),
    "charset of the part": lambda clip: body_of(
        video(clip),
        labels(b"\r\nContent-Type: text/plain; charset=ISO-8859-1", LABELS.encode("latin-1")),
    ),
    "charset of the form": lambda clip: body_of(
        labels(b"", LABELS.encode("cp1252")),
        video(clip),
        part(DISPOSITION + b'name="_charset_"', b"windows-1252"),
    ),
    "charset of a browser": lambda clip: body_of(
        part(DISPOSITION + b'name="_charset_"', b"UTF-8"), video(clip), labels()
    ),
    "byte-order mark": lambda clip: body_of(video(clip), labels(b"", LABELS.encode("utf-8-sig"))),
    "a file of lines from Windows": lambda clip: body_of(
        video(clip), labels(b'; filename="labels.txt"', "a café\r\na dog\r\n".encode("utf-16"))
    ),
    "a second file field, nothing chosen": lambda clip: body_of(
        video(clip),
        part(DISPOSITION + b'name="video"; filename=""\r\nContent-Type: x/y', b""),
        labels(),
    ),
    "a second file field, as a text": lambda clip: body_of(
        video(clip), labels(), part(DISPOSITION + b'name="video"', b"")
    ),
    "a first file field, nothing chosen": lambda clip: body_of(
        part(DISPOSITION + b'name="video"; filename=""', b""), video(clip), labels()
    ),
    "empty rows between labels": lambda clip: body_of(
        video(clip),
        labels(b"", b"a dog"),
        labels(b"", b""),
        labels(b"", "a café".encode()),
        labels(b"", b" "),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WELL_FORMED)
def test_forms_that_are_understood(server: RunningServer, clip: bytes, name: str) -> None:
    assert labels_of(post(server, WELL_FORMED[name](clip))) == {"a café", "a dog"}


@pytest.mark.parametrize("name", WELL_FORMED)
def test_in_single_bytes(server: RunningServer, clip: bytes, name: str) -> None:
    """The state between two reads is nobody's business."""
    body = WELL_FORMED[name](b"no video")
    at_once = post(server, body)
    singly = server.client.post(
        "/classify",
        content=(body[i : i + 1] for i in range(len(body))),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert (singly.status_code, singly.json()["code"]) == (415, "not_a_video")
    assert singly.json()["detail"] == at_once.json()["detail"]


REFUSED = {
    "unknown transfer encoding": (
        body_of(labels(b"\r\nContent-Transfer-Encoding: x-uuencode")), 415, "x-uuencode"),
    "broken base64": (
        body_of(labels(b"\r\nContent-Transfer-Encoding: base64", b"abc")), 422, "not valid base64"),
    "unknown charset": (
        body_of(labels(b"\r\nContent-Type: text/plain; charset=shift_jis")), 422, "shift_jis"),
    "a codec that is no charset": (
        body_of(labels(b"\r\nContent-Type: text/plain; charset=unicode_escape")), 422, "UTF-8"),
    "not in its charset": (
        body_of(labels(b"\r\nContent-Type: text/plain; charset=utf-8", b"\xff")), 422, "utf-8"),
    "not UTF-8": (body_of(labels(b"", b"\xff")), 422, "not UTF-8"),
    "LF for CR LF": (body_of(labels()).replace(b"\r\n", b"\n"), 400, "CR LF"),
    "LF in the headers": (
        b"--b\r\n" + (DISPOSITION + b'name="labels"\n\na\n--b--\n'), 400, "LF"),
    "LF in the headers only": (
        body_of(DISPOSITION + b'name="labels"\n\na'), 400, "CR LF"),
    "another boundary": (body_of(labels()).replace(b"--b", b"--other"), 400, "boundary"),
    "no boundary": (b"labels=a&top_k=1", 400, "boundary"),
    "nothing": (b"", 400, "boundary"),
    "a long preamble": (body_of(labels(), before=b"x" * 9000 + b"\r\n"), 400, "boundary"),
    "too many part headers": (
        body_of(labels(b"".join(b"\r\nX-%d: y" % i for i in range(50)))), 400, "header count"),
    "no name": (body_of(part(b"Content-Disposition: form-data", b"a")), 400, "no name"),
    "many parameters": (
        body_of(labels(b"\r\nContent-Type: text/plain" + b";" * 4000)), 400, "parameters"),
    "no headers": (body_of(b"\r\na"), 400, "no name"),
    "a folded header": (
        body_of(part(b'Content-Disposition: form-data;\r\n name="labels"', b"a")), 400, "in one"),
    "a compressed part": (
        body_of(labels(b"\r\nContent-Encoding: gzip")), 415, "labels is compressed"),
    "a path for the clip": (
        body_of(part(DISPOSITION + b'name="video"', b"a/caf\xc3\xa9.mp4"), labels()), 422, "=@"),
    "two clips": (body_of(video(b"a"), video(b"b")), 422, "twice"),
}  # fmt: skip


def test_python_keeps_no_name_of_a_charset(server: RunningServer) -> None:
    """It would keep each that it does not know for good."""
    known = set(encodings._cache)
    answer = post(server, body_of(labels(b"\r\nContent-Type: text/plain; charset=x-made-up")))
    assert "x-made-up" in answer.json()["detail"]
    assert set(encodings._cache) == known


@pytest.mark.parametrize("name", REFUSED)
def test_forms_that_are_refused(server: RunningServer, name: str) -> None:
    body, status, said = REFUSED[name]
    answer = post(server, body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("coding", ["gzip", "zstd", "br", "deflate, gzip"])
def test_a_compressed_body_is_named(server: RunningServer, clip: bytes, coding: str) -> None:
    body = gzip.compress(body_of(video(clip), labels()))
    answer = post(server, body, content_encoding=coding)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_content_type")
    assert f"Content-Encoding: {coding}" in answer.json()["detail"]


def test_identity_is_no_compression(server: RunningServer, clip: bytes) -> None:
    body = body_of(video(clip), labels())
    assert post(server, body, content_encoding="identity").status_code == 200


def test_a_form_of_the_mail_library(server: RunningServer, clip: bytes) -> None:
    form = email.mime.multipart.MIMEMultipart("form-data", boundary="b")
    form.preamble = "This is a multi-part message in MIME format."
    text = email.mime.text.MIMEText(LABELS, "plain", "utf-8")  # base64, in lines
    text.add_header("Content-Disposition", "form-data", name="labels")
    file = email.mime.base.MIMEBase("video", "mp4")
    file.set_payload(base64.encodebytes(clip).decode())
    file.add_header("Content-Transfer-Encoding", "base64")
    file.add_header("Content-Disposition", "form-data", name="video", filename="c.mp4")
    form.attach(text)
    form.attach(file)
    policy = form.policy.clone(linesep="\r\n")
    body = form.as_bytes(policy=policy).partition(b"\r\n\r\n")[2]
    assert labels_of(post(server, body)) == {"a café", "a dog"}


def test_a_form_in_which_no_file_was_chosen(server: RunningServer, video_id: str) -> None:
    no_file = part(DISPOSITION + b'name="video"; filename=""\r\nContent-Type: x/y', b"")
    by_id = part(DISPOSITION + b'name="video_id"', video_id.encode())
    assert labels_of(post(server, body_of(no_file, by_id, labels()))) == {"a café", "a dog"}


def test_a_clip_without_a_file_name(server: RunningServer, clip: bytes) -> None:
    file = part(DISPOSITION + b'name="video"', clip)
    assert labels_of(post(server, body_of(file, labels()))) == {"a café", "a dog"}


@pytest.mark.parametrize("second", [b'; filename="d.mp4"', b""])
@pytest.mark.parametrize("content", [b"x", b"\0" * 10])
def test_two_clips_are_refused(
    server: RunningServer, clip: bytes, second: bytes, content: bytes
) -> None:
    other = part(DISPOSITION + b'name="video"' + second, content)
    answer = post(server, body_of(video(clip), other, labels()))
    assert (answer.status_code, answer.json()["code"]) == (422, "duplicate_field")


@pytest.mark.parametrize("name", ["labels", "top_k", "video", "start"])
def test_fields_in_the_address_are_refused(server: RunningServer, clip: bytes, name: str) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    body = body_of(video(clip), labels())
    answer = server.client.post(f"/classify?x=1&{name}=1", content=body, headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_field")
    assert f"{name} stands in the address" in answer.json()["detail"]
    assert labels_of(server.client.post("/classify?utm=1", content=body, headers=kind))


def test_an_empty_file_is_told_from_none(server: RunningServer) -> None:
    answer = post(server, body_of(video(b""), labels()))
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_field")
    assert "empty" in answer.json()["detail"]


# --- urlencoded -------------------------------------------------------------------------------

URLENCODED = "application/x-www-form-urlencoded"


def test_an_id_and_labels_urlencoded(server: RunningServer, video_id: str) -> None:
    fields = {"video_id": video_id, "labels": ["a café", "a dog"]}
    body = urllib.parse.urlencode(fields, doseq=True).encode()
    assert labels_of(post(server, body, content_type=URLENCODED)) == {"a café", "a dog"}
    body = urllib.parse.urlencode({"video_id": video_id, "labels": LABELS}).encode()
    assert labels_of(post(server, body, content_type=URLENCODED)) == {"a café", "a dog"}


@pytest.mark.parametrize(
    "more", ["video=", "_charset_=UTF-8", "start=&end=&template=", "labels=", "labels=a+dog"]
)
def test_urlencoded_as_browsers_and_curl_send_it(
    server: RunningServer, video_id: str, more: str
) -> None:
    body = f"labels=a café&{more}&video_id={video_id}"
    expected = {"a café", "a dog"} if "dog" in more else {"a café"}
    assert labels_of(post(server, body.encode(), content_type=URLENCODED)) == expected


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"labels=a&video=abc", 422, "bad_field"),
        (b"labels=a&vidoe_id=abc", 422, "unknown_field"),
        (b"labels=%ff", 422, "bad_field"),
        ("labels=é".encode("latin-1"), 422, "bad_field"),
        (b"labels=a", 422, "missing_field"),
        (b"", 422, "missing_field"),
        (b"&".join([b"labels=a"] * 300), 413, "too_many_parts"),
        (b"labels=" + b"x" * (5 << 20), 413, "upload_too_large"),
    ],
)
def test_urlencoded_forms_that_are_refused(
    server: RunningServer, body: bytes, status: int, code: str
) -> None:
    answer = post(server, body, content_type=URLENCODED)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "application/xml",
        "multipart/mixed; boundary=b",
        "multipart/form-data",
        "text/x",
        "multipart/form-data; boundary=b" + ";" * 2000,
    ],
)
def test_other_content_types(server: RunningServer, kind: str) -> None:
    answer = post(server, body_of(labels()), content_type=kind)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_content_type")
