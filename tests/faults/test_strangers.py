"""Rows 29 and 30: files that lead elsewhere, names that mean something, and what outputs tell.

Every stranger's file here names a port of this machine and a film beside it, the canary. Nobody may
come to the port, and nobody may open the canary.
"""

from __future__ import annotations

import getpass
import os
import socket
import struct
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from commands import NO_DREAM
from watchers import Listener, opened

from dreamflow.video import ffmpeg
from dreamflow.video.ffmpeg import Input
from dreamflow.video.probe import probe
from dreamflow.video.stills import write_still

# ── QuickTime's ways to name another file ──


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def alias(path: Path) -> bytes:
    """The entry of a `dref` box that names a file on this disk, as QuickTime's aliases do."""
    name = os.fsencode(path)
    fields = struct.pack(">hh", 2, len(name)) + name + bytes(len(name) % 2)
    return box(b"alis", bytes(4), bytes(150), fields, struct.pack(">hh", -1, 0))


def link(address: str) -> bytes:
    """One that names an address."""
    return box(b"url ", b"\0\0\0\0", address.encode() + b"\0")


CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"dinf"}


def with_media_elsewhere(data: bytes, entry: bytes) -> bytes:
    """A QuickTime film, its index at the end, whose pictures are said to lie in another file."""
    made, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        inside = data[at + 8 : at + size]
        if kind in CONTAINERS:
            inside = with_media_elsewhere(inside, entry)
        elif kind == b"dref":
            inside = struct.pack(">II", 0, 1) + entry
        made += box(kind, inside)
        at += size
    return made


def reference_movie(address: str) -> bytes:
    """A film that consists of where to find it."""
    where = box(b"rdrf", bytes(4), b"url ", struct.pack(">I", len(address)), address.encode())
    head = box(b"ftyp", b"qt  ", bytes(4), b"qt  ")
    return head + box(b"moov", box(b"rmra", box(b"rmda", where)))


def strangers(clip: bytes, canary: Path, port: int) -> dict[str, bytes]:
    web = f"http://127.0.0.1:{port}/a.ts"
    texts = {
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{web}\n#EXT-X-ENDLIST\n",
        "hls file.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{canary}\n#EXT-X-ENDLIST\n",
        "hls key.m3u8": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{web}"\n#EXTINF:1,\n{canary}\n',
        "concat.mp4": f"ffconcat version 1.0\nfile '{canary}'\n",
        "concat web.mkv": f"ffconcat version 1.0\nfile '{web}'\n",
        "dash.mp4": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
        f'<AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>{web}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
        "call.mp4": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "drawing.png": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{web}"/></svg>',
        "drawing.mp4": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{canary}"/></svg>',
        "post.png": f"%!PS-Adobe-3.0 EPSF-3.0\n({canary}) run\n",
        "redirect.asf": f"[Reference]\r\nRef1={web}\r\n",
        "stream.asx": f'<asx version="3.0"><entry><ref href="{web}"/></entry></asx>',
        "talk.ram": f"{web}\n",
        "words.ass": f"[Script Info]\nScriptType: v4.00+\n[Fonts]\nfontname: {canary}\n",
        "pictures.avs": f'DirectShowSource("{canary}")\n',
    }
    files = {name: text.encode() for name, text in texts.items()}
    return files | {
        "elsewhere.mov": with_media_elsewhere(clip, alias(canary)),
        "on the web.mov": with_media_elsewhere(clip, link(web)),
        "reference.mov": reference_movie(web),
        "reference file.mov": reference_movie(f"file://{canary}"),
    }


NAMES = list(strangers(b"", Path("canary"), 0))


@pytest.fixture
def listener(monkeypatch):
    """Where proxies would lead too, so that a fetch by way of one is seen."""
    port = Listener()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port.port}")
    monkeypatch.setenv("no_proxy", "")
    yield port
    port.close()


@pytest.fixture
def canary(tmp_path, media):
    path = tmp_path / "canary.mov"
    path.write_bytes(quicktime(media).read_bytes())
    return path


def quicktime(media) -> Path:
    return media.counter("plain.mov", frames=3)


def test_the_watchers_see_what_they_watch_for(listener, canary):
    with opened(canary) as seen:
        canary.read_bytes()
    assert seen == ["canary.mov"]
    with pytest.raises(OSError, match=r"."):
        urllib.request.urlopen(f"http://127.0.0.1:{listener.port}/", timeout=10)
    assert listener.visits > 0


@pytest.mark.parametrize("name", NAMES)
def test_row_29_a_file_leads_nowhere(command, media, listener, canary, name):
    clip = quicktime(media).read_bytes()
    Path(name).write_bytes(strangers(clip, canary, listener.port)[name])
    verb, target = ("image", "new.png") if name.endswith(".png") else ("video", "new.mkv")
    with opened(canary) as seen:
        if name in ("elsewhere.mov", "on the web.mov"):
            # Its frames cannot be fetched; what else is in it may be taken for a short film.
            assert command(verb, name, "-o", target, *NO_DREAM).code in (0, 65)
        else:
            assert name in command.refusal(65, verb, name, "-o", target)
    assert seen == []
    assert listener.visits == 0


def test_row_29_with_its_references_followed_the_film_would_be_another(media, canary):
    """The tricks are real: ffmpeg, told to, opens the canary."""
    film = canary.parent / "elsewhere.mov"
    film.write_bytes(with_media_elsewhere(quicktime(media).read_bytes(), alias(canary)))
    words = ["-enable_drefs", "1", "-use_absolute_path", "1", "-i", str(film), "-f", "null", "-"]
    with opened(canary) as seen:
        subprocess.run([ffmpeg.find(), "-v", "error", *words], capture_output=True, check=False)
    assert seen


ADDRESSES = [
    *("http://127.0.0.1:{port}/a.mp4", "rtmp://127.0.0.1:{port}/a", "tcp://127.0.0.1:{port}"),
    *("concat:{canary}|{canary}", "subfile,,start,0,end,0,,:{canary}", "file:{canary}"),
    *("crypto:{canary}", "async:{canary}", "cache:{canary}", "data:video/mp4;base64,AAAA"),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_row_29_an_address_is_the_name_of_a_file_that_is_not_there(
    command, listener, canary, address
):
    given = address.format(port=listener.port, canary=canary)
    with opened(canary) as seen:
        command.refusal(66, "video", given, "-o", "new.mkv")
        command.refusal(66, "image", given, "-o", "new.png")
    assert seen == []
    assert listener.visits == 0


@pytest.mark.parametrize("option", ["--mask", "--audio"])
def test_row_29_sounds_and_masks_are_files_too(command, media, listener, canary, option):
    clip = quicktime(media)
    listening = ("-s", "dream.step_size=1+audio.rms")
    web = f"http://127.0.0.1:{listener.port}/a"
    playlist = Path("list.wav")
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{canary}\n#EXTINF:1,\n{web}\n#EXT-X-ENDLIST\n")
    words = ("video", clip, "-o", "new.mkv", *NO_DREAM, *(listening if "audio" in option else ()))
    with opened(canary) as seen:
        command.refusal(66, *words, option, web)
        command.refusal(65, *words, option, playlist)
    assert seen == []
    assert listener.visits == 0


@pytest.mark.parametrize("key", ["extends", "network", "audio", "mask"])
def test_row_29_presets_fetch_nothing(command, listener, key):
    web = f"http://127.0.0.1:{listener.port}/a.yaml"
    command.refusal(78, "presets", "check", web)
    value = f"vgg16:{web}" if key == "network" else web
    ground = "" if key == "extends" else "extends: base\n"
    Path("p.yaml").write_text(f"{ground}{key}: {value}\n")
    command.refusal(78, "presets", "check", "p.yaml")
    assert listener.visits == 0


def test_row_29_attachments_and_subtitles_are_left_alone(command, media, listener, canary):
    """A film whose font is a playlist, and whose subtitles name files and addresses."""
    subtitles = Path("words.srt")
    subtitles.write_text(f"1\n00:00:00,000 --> 00:00:01,000\n<img src='file://{canary}'/>\n")
    playlist = Path("list.ttf")
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{listener.port}/a.ts\n")
    film = Path("film.mkv")
    kind = ["-attach", str(playlist), "-metadata:s:t", "mimetype=application/x-truetype-font"]
    maps = ["-map", "0", "-map", "1", "-c:v", "copy", "-c:s", "srt"]
    ffmpeg.run([Input(quicktime(media)), "-i", str(subtitles), *kind, *maps, "-f", "matroska",
                ffmpeg.output_name(film)])  # fmt: skip
    with opened(canary) as seen:
        command.video(film, "new.mkv")
    assert seen == []
    assert listener.visits == 0
    assert probe(Path("new.mkv")).frame_count == 3


# ── 30: names ──

HOSTILE = ["-y", "a b'\";$(id)", "%d", "%%03d", "concat:a|b", "http:x", "new\nline", "🦎 \udcff",
           "file:x", "-", "[x]*?", "\\", "~", "\x1b[2J", "x" * 240]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_row_30_a_name_is_a_name(command, media, name):
    source, target = f"{name}.mp4", f"{name}.mkv"
    Path(source).write_bytes(media.counter("one.mp4", frames=1).read_bytes())
    words = ["video", *NO_DREAM, f"--output={target}", "--", source]
    answer = command(*words)
    assert (answer.code, answer.out, answer.err) == (0, [], [])
    assert sorted(os.listdir()) == sorted([source, target])
    assert probe(Path(target)).frame_count == 1
    assert command("show", "--", target).out[0].startswith("# dreamflow: ")
    assert command.refusal(73, *words).isprintable()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in HOSTILE[4:]]


@pytest.mark.parametrize("name", [*HOSTILE[:4], *SLOW])
def test_row_30_pictures_sounds_and_folders_may_have_any_name(command, media, name):
    picture, sound = Path(f"{name}.png"), Path(f"{name}.wav")
    write_still(picture, np.full((24, 32, 3), 128, np.uint8))
    sound.write_bytes(media.draw("tone.wav", "-f", "lavfi", "-i", "sine=d=0.2").read_bytes())
    words = [f"--mask={picture}", f"--audio={sound}", "-s", "dream.step_size=1+audio.rms"]
    answer = command("video", *NO_DREAM, *words, f"--output={name}/", "--", picture)
    assert answer.code == 0, answer.err
    assert os.listdir(name) == ["00000001.png"]
    shown = command("show", "--", f"{name}/").out
    assert all(line.isprintable() for line in shown)


# ── what outputs tell ──

SECRETS = ("secretfolder", "secretuser", "secrethost")


@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv", "out.webm", "out.gif", "out/"])
def test_a_film_tells_no_folder_user_or_host(command, media, monkeypatch, target):
    folder = Path("secretfolder-secretuser-secrethost")
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder.absolute()))
    monkeypatch.setenv("USER", "secretuser")
    monkeypatch.setenv("LOGNAME", "secretuser")
    clip, mask, sound = folder / "clip.mp4", folder / "mask.png", folder / "tone.wav"
    clip.write_bytes(media.counter("one.mp4", frames=1).read_bytes())
    write_still(mask, np.full((24, 32, 3), 255, np.uint8))
    sound.write_bytes(media.draw("tone.wav", "-f", "lavfi", "-i", "sine=d=0.2").read_bytes())
    (folder / "p.yaml").write_text("extends: base\ndream: {step_size: 1+audio.rms}\n")
    words = ["-p", folder / "p.yaml", "--mask", mask, "--audio", sound]
    command.video(clip.absolute(), f"{folder}/{target}", *words)
    made = folder / target
    files = sorted(made.iterdir()) if made.is_dir() else [made]
    data = b"".join(file.read_bytes() for file in files)
    own = [name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 4]
    for word in [*SECRETS, *own, str(Path.cwd()), Path.cwd().parent.parent.name]:
        assert word.encode() not in data, word
    shown = "\n".join(command("show", made if made.is_file() else f"{made}/").out)
    assert "tone.wav" in shown
    assert "mask.png" in shown
    assert "# audio_sha256: " in shown
    assert "# mask_sha256: " in shown


@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.webp"])
def test_a_picture_tells_no_folder_either(command, target):
    folder = Path("secretfolder")
    folder.mkdir()
    write_still(folder / "in.png", np.full((24, 32, 3), 128, np.uint8))
    command.image((folder / "in.png").absolute(), folder / target)
    data = (folder / target).read_bytes()
    assert b"dreamflow" in data
    assert b"secret" not in data
    assert os.fsencode(Path.cwd()) not in data
