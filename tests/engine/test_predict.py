import torch
from torch import nn

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
