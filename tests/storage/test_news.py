"""What listeners tell reaches the indexer in order, or its loss does; and nobody who tells something ever waits."""

import os
import time
from contextlib import suppress
from dataclasses import replace
from threading import Thread

import pytest

import storage.arrivals.news
from storage.arrivals.news import News, NewsPipe, NewsReader, What
from storage.database import utc_now
from storage.intake import Verdict


@pytest.fixture
def pipe() -> NewsPipe:
    return NewsPipe(listeners=2)


def read_all(reader: NewsReader) -> list[News]:
    news: list[News] = []
    while reader._pipe.wait(0.1):
        news += reader.read(timeout_s=0.0)
    return news


def but_for_times(news: list[News]) -> list[News]:
    return [replace(one, at=None) for one in news]


def fill(pipe: NewsPipe) -> None:
    while pipe.put(b"\n" * 4096):
        pass


def test_what_each_listener_tells_comes_in_order(pipe: NewsPipe) -> None:
    one, two = pipe.writer(0), pipe.writer(1)
    one.started()
    two.on_stored("k1")
    one.on_stored("k2")
    two.on_released("a1")
    two.on_closed("a1")
    one.alive()
    assert but_for_times(read_all(pipe.reader())) == [
        News(What.STARTED, 0),
        News(What.STORED, 1, "k1"),
        News(What.STORED, 0, "k2"),
        News(What.RELEASED, 1, "a1"),
        News(What.CLOSED, 1, "a1"),
        News(What.ALIVE, 0),
    ]


def test_lines_of_many_threads_are_never_mixed(pipe: NewsPipe) -> None:
    def tell(thread: int) -> None:
        for number in range(500):
            pipe.writer(thread % 2).on_stored(f"{thread:02d}-{number:03d}")

    threads = [Thread(target=tell, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [news.about for news in read_all(pipe.reader())]
    assert sorted(told) == [f"{thread:02d}-{number:03d}" for thread in range(8) for number in range(500)]
    of_one_thread = [about for about in told if about.startswith("03-")]
    assert of_one_thread == sorted(of_one_thread)


def test_what_was_told_while_no_indexer_ran_is_read_by_the_next(pipe: NewsPipe) -> None:
    pipe.writer(0).on_stored("k1")
    assert read_all(pipe.reader()) == [News(What.STORED, 0, "k1")]
    pipe.writer(0).on_stored("k2")
    assert read_all(pipe.reader()) == [News(What.STORED, 0, "k2")]


def test_half_a_line_that_an_indexer_took_with_it_does_not_confuse_the_next(pipe: NewsPipe) -> None:
    pipe.writer(0).on_stored("0123456789abcdef")
    os.read(pipe._news[0], 20)
    pipe.writer(1).on_stored("k2")
    assert read_all(pipe.reader()) == [News(What.STORED, 1, "k2")]


def test_a_full_pipe_delays_nobody_and_the_loss_is_told_before_what_comes_after_it(pipe: NewsPipe) -> None:
    writer = pipe.writer(0)
    fill(pipe)
    begun = time.monotonic()
    for number in range(1000):
        writer.on_stored(f"lost{number}")
    assert time.monotonic() - begun < 60.0  # it would be forever
    reader = pipe.reader()
    before = read_all(reader)
    writer.on_stored("k1")
    assert before[:1] == [News(What.LOST)]
    assert read_all(reader) == [News(What.STORED, 0, "k1")]


def test_a_release_that_found_the_pipe_full_is_told_later_and_in_its_order(pipe: NewsPipe) -> None:
    writer, reader = pipe.writer(0), pipe.reader()
    fill(pipe)
    writer.on_released("a1")
    writer.on_closed("a1")
    assert read_all(reader) == []
    told_by = utc_now()
    writer.alive()
    news = read_all(reader)
    assert but_for_times(news) == [
        News(What.RELEASED, 0, "a1"),
        News(What.CLOSED, 0, "a1"),
        News(What.ALIVE, 0),
    ]
    assert (news[0].at or utc_now()) < told_by, "when it was released, not when there was room"


def test_of_releases_that_never_found_room_a_limited_number_is_remembered(
    pipe: NewsPipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.arrivals.news, "UNSENT_LIMIT", 3)
    writer, reader = pipe.writer(0), pipe.reader()
    fill(pipe)
    for number in range(10):
        writer.on_released(f"a{number}")
    assert read_all(reader) == []
    writer.alive()
    assert len(read_all(reader)) == 4


def test_a_verdict_comes_to_the_thread_that_waits_for_it(pipe: NewsPipe) -> None:
    asking, reader = pipe.writer(1, asks=True), pipe.reader()
    for key in ("k1", "k2"):
        asking.on_stored(key)
    first, second = read_all(reader)
    assert (first, second) == (News(What.ASKED, 1, "k1"), News(What.ASKED, 1, "k2"))
    reader.answer(second, Verdict.CONFLICTING)
    reader.answer(first, None)
    assert asking.verdict("k2", timeout_s=20.0) is Verdict.CONFLICTING
    assert asking.verdict("k1", timeout_s=20.0) is None


def test_nobody_waits_longer_than_it_wants_or_for_what_nobody_was_told(pipe: NewsPipe) -> None:
    asking = pipe.writer(0, asks=True)
    asking.on_stored("k1")
    assert asking.verdict("k1", timeout_s=0.01) is None
    fill(pipe)
    asking.on_stored("k2")
    assert asking.verdict("k2", timeout_s=600.0) is None


def test_an_answer_to_a_listener_that_died_harms_its_successor_not(pipe: NewsPipe) -> None:
    reader = pipe.reader()
    reader.answer(News(What.ASKED, 0, "of an earlier one"), Verdict.KEPT)
    asking = pipe.writer(0, asks=True)
    asking.on_stored("k1")
    (asked,) = read_all(reader)
    reader.answer(asked, Verdict.KEPT)
    assert asking.verdict("k1", timeout_s=20.0) is Verdict.KEPT


def test_a_listener_that_does_not_read_its_answers_holds_up_nobody(pipe: NewsPipe) -> None:
    reader = pipe.reader()
    for number in range(10_000):
        reader.answer(News(What.ASKED, 0, f"k{number}"), Verdict.KEPT)


def test_a_pipe_that_nobody_holds_any_more_leaves_no_descriptor() -> None:
    before = open_pipes()
    pipe = NewsPipe(listeners=3)
    writer, reader = pipe.writer(2), pipe.reader()
    del pipe
    writer.on_stored("k1")
    assert reader.read(timeout_s=1.0) == [News(What.STORED, 2, "k1")]
    del writer, reader
    assert open_pipes() <= before


def open_pipes() -> set[str]:
    """By their names, which the kernel does not give twice: a number is another thread's a moment later."""
    names = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            names.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in names if name.startswith("pipe:")}
