"""Work in threads: in order, under the caller's rules, and without a trace on torch's own threads."""

import multiprocessing
import threading

import pytest
import torch

from cpu import threads


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(count, threads_of_torch):
    threads_of_torch(count)
    assert threads.each(lambda item: item * item, range(7)) == [item * item for item in range(7)]
    assert threads.each(abs, []) == []
    assert torch.get_num_threads() == count


def test_every_thread_has_one_core_for_its_operations_and_threads_started_later_have_all(threads_of_torch):
    threads_of_torch(2)
    meeting = threading.Barrier(2, timeout=30)

    def work(_):
        meeting.wait()  # both threads are needed, at the same time
        return torch.get_num_threads(), threading.current_thread() is threading.main_thread()

    assert threads.each(work, range(2)) == [(1, False)] * 2
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_gradients_are_recorded_as_by_the_caller(context, threads_of_torch):
    threads_of_torch(2)
    with context():
        wanted = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = threads.each(lambda _: (torch.is_grad_enabled(), torch.is_inference_mode_enabled()), range(4))
    assert found == [wanted] * 4


def test_an_exception_reaches_the_caller(threads_of_torch):
    threads_of_torch(2)
    with pytest.raises(ZeroDivisionError):
        threads.each(lambda item: 1 / item, [1, 0, 2, 3])


def _doubled(answer):
    torch.set_num_threads(2)
    answer.put(threads.each(lambda item: 2 * item, range(4)))


def test_a_forked_process_starts_threads_of_its_own(threads_of_torch):
    threads_of_torch(2)
    threads.each(abs, range(4))
    fork = multiprocessing.get_context("fork")
    answer = fork.Queue()
    child = fork.Process(target=_doubled, args=(answer,))
    child.start()
    assert answer.get(timeout=60) == [0, 2, 4, 6]
    child.join()


def test_the_allocator_takes_its_settings():
    """In a process of its own, since they cannot be taken back; elsewhere than on glibc the answer is no."""
    import subprocess
    import sys

    from tests.conftest import ROOT

    code = (
        "import platform; from cpu import allocator\n"
        "assert allocator.keep_freed_memory() == (platform.libc_ver()[0] == 'glibc')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
