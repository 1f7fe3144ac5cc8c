"""The NVML sampler on the real pynvml over a driver that fails in each way drivers do."""

import threading
from time import sleep

import pynvml
import pytest

from reroute_cli.measure import memory as module
from reroute_cli.measure.memory import ABSENT, BACKWARDS, TOO_SHORT, NvmlSampler, driver_version
from tests.cli.measure.fake_nvml import GONE, NOT_SUPPORTED, Driver

PID = 4242
MEMORY = "nvmlDeviceGetMemoryInfo"
PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
MINE = [(PID, 55)]


def sampler():
    """A sampler for the driver's GPU and our process, a thousand times a second."""
    return NvmlSampler("abc", period=0.001, pid=PID)


def sampled(driver, samples=5):
    """What a sampler finds that stays open for some samples, having closed what it opened."""
    with sampler() as found:
        driver.wait(samples)
    assert_closed(driver)
    return found


def assert_closed(driver):
    """No thread runs on, and the library was shut down exactly as often as it was opened: once."""
    assert [thread for thread in threading.enumerate() if thread.name == "nvml"] == []
    assert (driver.inits, driver.shutdowns) == (1, 1)


def test_the_peak_is_kept_over_the_whole_context(monkeypatch):
    """The highest of many samples, for the process and for the device, wherever in the run it was."""
    found = sampled(Driver(monkeypatch, used=[100, 300, 900, 300], processes=[(1, 77), *MINE]))
    assert (found.device, found.process, found.reasons) == (900, 55, {})


@pytest.mark.parametrize("used", [[900, 100], [100, 900]], ids=["first", "last"])
def test_the_first_and_the_last_moment_are_sampled_too(monkeypatch, used):
    """With a period longer than the run, the peaks are those of its beginning and its end."""
    driver = Driver(monkeypatch, used=used)
    with NvmlSampler("abc", period=1000, pid=PID) as found:
        sleep(5 * module.PERIOD)
    assert (found.device, found.period, driver.samples) == (900, 1000, 2)
    assert_closed(driver)


def test_a_process_is_known_from_when_it_appears(monkeypatch):
    """Two entries of one process (two contexts) add up; before and after it is listed its peak stays."""
    driver = Driver(monkeypatch)
    with sampler() as found:
        driver.wait(2)
        driver.processes = [(PID, 50), (PID, 5), (1, 900)]
        driver.wait(2)
        driver.processes = []
        driver.wait(2)
    assert (found.process, found.reasons) == (55, {})


@pytest.mark.parametrize("processes", [(), ((1, 77),), ((PID, None),)], ids=["none", "others", "hidden"])
def test_a_process_that_is_not_listed_is_unknown_not_zero(monkeypatch, processes):
    """Containers hide process ids, drivers hide usage: None with a reason, while the device is known."""
    found = sampled(Driver(monkeypatch, processes=processes))
    assert (found.process, found.device, found.reasons) == (None, 100, {"process": ABSENT})


@pytest.mark.parametrize("code", [NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION])
@pytest.mark.parametrize(
    ("function", "name"), [(MEMORY, "device"), (PROCESSES, "process"), (ENERGY, "energy")]
)
def test_what_the_part_does_not_support_is_unknown(monkeypatch, function, name, code):
    """NotSupported on one question (MIG, unified memory, old cards) leaves the others answered."""
    driver = Driver(monkeypatch, processes=MINE, fails={function: code})
    with sampler() as found:
        pass
    assert_closed(driver)
    known = {"device": 100, "process": 55, "energy": 5.0}
    assert {each: getattr(found, each) for each in known} == known | {name: None}
    assert found.reasons == {name: f"NVML: {pynvml.NVMLError(code)}"}


def test_a_driver_older_than_pynvml_is_unknown(monkeypatch):
    """pynvml then raises an error that is no NVMLError; only the question it concerns is unknown."""
    driver = Driver(monkeypatch, lacks=(PROCESSES,))
    found = sampled(driver)
    assert (found.process, found.device) == (None, 100)
    assert "does not match" in found.reasons["process"]


def test_a_mig_slice_is_found_by_its_own_uuid(monkeypatch):
    """A slice's UUID starts with MIG; its energy is not supported, its memory is."""
    driver = Driver(monkeypatch, uuids=("MIG-abc",), used=[7], processes=MINE, fails={ENERGY: NOT_SUPPORTED})
    found = sampled(driver)
    assert (found.device, found.process, found.energy) == (7, 55, None)
    assert found.reasons == {"energy": "NVML: Not Supported"}


def test_a_gpu_that_nvml_does_not_know_is_unknown(monkeypatch):
    """Another UUID than ours: three reasons, no exception, and the library is closed again."""
    driver = Driver(monkeypatch, uuids=("GPU-other",))
    with sampler() as found:
        pass
    assert_closed(driver)
    assert (found.process, found.device, found.energy) == (None, None, None)
    assert found.reasons == dict.fromkeys(("process", "device", "energy"), "NVML: Not Found")


def test_without_a_driver_all_is_unknown(monkeypatch):
    """No library to load: pynvml's own error, three reasons, nothing started."""
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", lambda *_: (_ for _ in ()).throw(OSError("no such file")))
    with sampler() as found:
        assert "nvml" not in {thread.name for thread in threading.enumerate()}
    assert (found.process, found.device, found.energy) == (None, None, None)
    reason = "NVML: NVML Shared Library Not Found"
    assert found.reasons == dict.fromkeys(("process", "device", "energy"), reason)
    assert driver_version() is None


def test_a_driver_that_refuses_to_start_is_not_shut_down(monkeypatch):
    """nvmlInit failed: there is nothing to close, and the reason is the driver's."""
    driver = Driver(monkeypatch, fails={"nvmlInitWithFlags": pynvml.NVML_ERROR_DRIVER_NOT_LOADED})
    with sampler() as found:
        pass
    assert driver.asked == {"nvmlInitWithFlags"}
    assert found.reasons["device"] == "NVML: Driver Not Loaded"


def test_without_the_module_all_is_unknown(monkeypatch):
    """nvidia-ml-py is not there: the reason says so."""
    monkeypatch.setattr(module, "load_nvml", lambda: (_ for _ in ()).throw(ImportError("no")))
    with sampler() as found:
        pass
    assert set(found.reasons) == {"process", "device", "energy"}
    assert "pynvml" in found.reasons["process"]
    assert driver_version() is None


def test_a_driver_that_dies_leaves_no_half_peak(monkeypatch):
    """What was seen before is no peak of the run: unknown with the reason, the thread joined, no error."""
    driver = Driver(monkeypatch, processes=MINE)
    with sampler() as found:
        driver.wait(3)
        assert (found.device, found.process) == (100, 55)
        driver.die()
    assert "nvml" not in {thread.name for thread in threading.enumerate()}
    assert (found.device, found.process, found.energy) == (None, None, None)
    assert found.reasons == dict.fromkeys(("process", "device", "energy"), f"NVML: {pynvml.NVMLError(GONE)}")


def test_a_driver_that_fails_and_recovers_is_still_unknown(monkeypatch):
    """The peak may have been in the gap."""
    driver = Driver(monkeypatch, used=[100], processes=MINE)
    with sampler() as found:
        driver.fails = {PROCESSES: GONE}
        driver.wait(3)
        driver.fails = {}
        driver.wait(3)
    assert (found.device, found.process) == (100, None)
    assert found.reasons == {"process": "NVML: GPU is lost"}
    assert_closed(driver)


@pytest.mark.parametrize(
    ("energy", "joules", "reason"),
    [
        ((1000, 3500), 2.5, None),
        ((0, 1), 0.001, None),
        ((7000, 7000), None, TOO_SHORT),
        ((2**64 - 1, 20), None, BACKWARDS),
        ((7000, 0), None, BACKWARDS),
    ],
    ids=["difference", "least", "still", "wrapped", "reset"],
)
def test_energy_is_the_counter_s_difference_in_joules(monkeypatch, energy, joules, reason):
    """Millijoules at the end less those at the start; a counter that stood still or went back is unknown."""
    found = sampled(Driver(monkeypatch, energy=energy))
    assert found.energy == joules
    assert found.reasons.get("energy") == reason


def test_energy_ends_before_the_thread_is_waited_for(monkeypatch):
    """With a period of ten minutes the block still closes at once, and no thread remains."""
    driver = Driver(monkeypatch)
    with NvmlSampler("abc", period=600, pid=PID) as found:
        pass
    assert_closed(driver)
    assert found.energy == 5.0


def test_an_exception_inside_closes_everything(monkeypatch):
    """The thread is joined, the library shut down once, the exception comes out."""
    driver = Driver(monkeypatch, processes=MINE)
    with pytest.raises(ZeroDivisionError), sampler():
        _ = 1 / 0
    assert_closed(driver)


def test_a_bug_while_opening_closes_everything(monkeypatch):
    """An error that NVML never raises comes out of the `with`, and nothing is left open or locked."""
    driver = Driver(monkeypatch)
    monkeypatch.setattr(driver, "_used", iter("x"))
    with pytest.raises(TypeError), sampler():
        pass
    assert_closed(driver)
    driver = Driver(monkeypatch)
    assert sampled(driver).device == 100


def test_a_sampler_can_be_used_again(monkeypatch):
    """The second use forgets the first one's peaks and reasons."""
    Driver(monkeypatch, used=[900], processes=MINE, fails={ENERGY: NOT_SUPPORTED})
    again = sampler()
    with again:
        pass
    assert (again.device, again.process, set(again.reasons)) == (900, 55, {"energy"})
    Driver(monkeypatch, used=[100])
    with again:
        pass
    assert (again.device, again.process, again.energy) == (100, None, 5.0)
    assert again.reasons == {"process": ABSENT}


def test_the_driver_version_is_asked_of_nvml(monkeypatch):
    """The version where there is a driver, None where it fails, and the library is closed either way."""
    driver = Driver(monkeypatch)
    assert driver_version() == "580.1"
    assert (driver.inits, driver.shutdowns) == (1, 1)
    driver.fails = {"nvmlSystemGetDriverVersion": GONE}
    assert driver_version() is None
    assert (driver.inits, driver.shutdowns) == (2, 2)
    driver.fails = {"nvmlInitWithFlags": GONE}
    assert driver_version() is None
