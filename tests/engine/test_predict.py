import threading

import torch
from torch import nn

from curator.engine import run as running
from tests.conftest import noisy


def test_predict_is_the_mean_of_the_nets_in_evaluation_mode(make_run):
    run = make_run()
    data, _ = noisy(70, 3)
    nets = run.register("nets", nn.ModuleList([run.build_net("a", data), run.build_net("b", data)]))
    assert not torch.equal(nets[0].head.weight, nets[1].head.weight)
    x = run.normaliser(data.inputs)(data.inputs.batch(torch.arange(70)))
    nets.eval()
    with torch.no_grad():
        expected = (nets[0](x).logits + nets[1](x).logits) / 2
    nets.train()
    got = run.predict(nets, data.inputs, batch=16)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    assert nets[0].training and got.dtype == torch.float32
    some = torch.tensor([5, 3, 60])
    torch.testing.assert_close(run.predict(nets, data.inputs, some), expected[some], atol=1e-5, rtol=1e-4)


def test_two_threads_see_half_of_the_rows_each_and_say_the_same(make_run, monkeypatch):
    data, _ = noisy(70, 3, kind="features")
    found = []
    for cores in (1, 2):
        monkeypatch.setattr(running, "threads_per_process", lambda cores=cores: cores)
        run = make_run(net="mlp")
        net, threads = run.register("net", run.build_net("net", data)), set()
        net.register_forward_hook(lambda *_, threads=threads: threads.add(threading.get_ident()))
        found.append(run.predict(net, data.inputs, torch.arange(70).flip(0), batch=15))
        assert len(threads) == cores and net.training
    assert torch.equal(*found)
