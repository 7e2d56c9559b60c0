"""What happens inside a network, as pictures. Changes nothing that is made."""
